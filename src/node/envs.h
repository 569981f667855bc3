// Environments for runs: resolves and builds on workers, each environment once at a time; whoever
// wants the same one meanwhile waits for it and sees its progress. A build nobody waits for any
// more is cancelled.
//
//   prepare() ─ tree already there ─▶ done
//            └─ not being built ─▶ resolve (no section) ─ build ─ row in envs ─▶ done, to all who
//            wait
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "env/env.h"
#include "node/node.h"

namespace loam::node {

inline constexpr int kBuildsAtOnceMax = 3;  // the other workers stay free for starts and exits

// Nothing is to be resolved or built for it.
inline bool plain_host(const spec::Env& env) {
  return env.base == "host" && env.pip.empty() && env.apt.empty();
}

struct EnvRequest {
  spec::Env env;
  std::optional<Json> section;  // from loam.lock; none: resolve
  std::string home;
  std::vector<std::pair<std::string, std::string>> proxy_environment;
};

struct EnvOutcome {
  std::string digest;
  std::string tree;  // hex, "" for base: host without pip
  Json section;
  bool built = false;  // false: it was there
};

class Envs {
 public:
  explicit Envs(Node& node) : node_(node) {}

  struct Listener {
    std::function<void()> waiting;  // somebody else builds it
    std::function<void(const env::Progress&)> progress;
    std::function<void(Result<EnvOutcome>)> done;  // once, on the loop; never from within prepare()
  };
  using Ticket = std::shared_ptr<void>;  // dropping it stops listening
  std::function<void(std::shared_ptr<store::Store::Pin>)> release_pin;  // set once by our owner
  Ticket prepare(const EnvRequest& request, Listener listener);

  std::optional<EnvOutcome> find(const std::string& digest);
  // The section that a command on the bare host uses; needs no build.
  EnvOutcome host();
  void touch(const std::string& digest);
  // Digests of the environments used last, newest first.
  std::vector<std::string> newest(std::size_t count);

 private:
  struct Build {
    std::string key;
    EnvRequest request;
    std::map<std::uint64_t, Listener> waiters;
    std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
    std::map<std::string, env::Progress> progress;
    bool running = false;
  };

  std::optional<EnvOutcome> ready(const EnvRequest& request);
  env::NamedTree named_tree(const EnvRequest& request);
  void start_next();
  void start(const std::shared_ptr<Build>& build);
  void finish(const std::shared_ptr<Build>& build, Result<EnvOutcome> outcome);
  void remember(const EnvOutcome& outcome);
  void leave(const std::string& key, std::uint64_t waiter);

  Node& node_;
  std::map<std::string, std::shared_ptr<Build>> builds_;
  std::deque<std::string> queue_;
  int running_ = 0;
  std::uint64_t next_waiter_ = 1;
  std::shared_ptr<Envs*> self_ = std::make_shared<Envs*>(this);  // tickets may outlive us
};

}  // namespace loam::node
