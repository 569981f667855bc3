#include "world.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>

#include "base/files.h"
#include "shim/exit_record.h"

namespace loam::simulation {

World*& World::current() {
  static World* world = nullptr;
  return world;
}

void World::say(const std::string& text) {
  for (const char letter : text)
    hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
  if (trace_) std::printf("%6llu  %s\n", static_cast<unsigned long long>(steps), text.c_str());
}

void World::broken(const std::string& what) {
  say("BROKEN: " + what);
  if (failure.empty()) failure = what;
}

void World::shim_step() {
  if (shims.empty()) return;
  const std::size_t at = random.below(shims.size());
  Shim& shim = *shims[at];
  if (shim.state == Shim::State::forked) return begin(shim);
  if (shim.state == Shim::State::dying) {
    // A dying init closes its descriptors before its children are gone: the lock first, then the
    // group.
    say("shim " + shim.attempt + " is gone");
    shims.erase(shims.begin() + static_cast<std::ptrdiff_t>(at));
    return;
  }
  hear(shim);
  if (shim.state == Shim::State::running && (shim.stopped || random.one_in(6))) return end(shim);
  if (shim.state == Shim::State::ended && (shim.committed || !shim.link->connected())) {
    say("shim " + shim.attempt + " goes");
    shims.erase(shims.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

void World::begin(Shim& shim) {
  auto link = shim::NodeLink::open(shim.folder, std::move(shim.first));
  const auto text = read_file(shim.folder + "/plan.json", 1 << 20);
  if (!link || !text) return broken("shim " + shim.attempt + " has no plan or folder");
  const auto plan = api::attempt_plan_from(*Json::parse(*text));
  if (!plan) return broken("plan: " + plan.error().text);
  shim.link = std::move(*link);
  shim.state = Shim::State::running;
  shim.started_ms = wall;
  Group& group = groups[shim.attempt];
  if (!began.insert(shim.attempt).second) broken("attempt " + shim.attempt + " ran twice");
  group.populated = true;
  group.unkillable = faults && random.one_in(40);
  group.job = std::stoll(plan->argv[0]);
  group.device = std::stoi(plan->argv[1]);
  say("shim " + shim.attempt + " runs job " + plan->argv[0] + " on device " + plan->argv[1]);
  shim.link->announce(Json::object({{"type", "running"}, {"started_ms", shim.started_ms}}));
}

void World::hear(Shim& shim) {
  std::vector<pollfd> polls;
  shim.link->add_polls(polls);
  const timespec at_once{0, 0};
  if (::ppoll(polls.data(), polls.size(), &at_once, nullptr) <= 0) return;
  shim.link->handle(polls.data(), [&](const Json& packet, Fd) {
    const std::string& type = packet["type"].as_string();
    say("shim " + shim.attempt + " hears " + type);
    if (type == "committed") shim.committed = true;
    if (type == "kill" && !shim.stopped) shim.stopped = api::Outcome::cancelled;
    if (type != "stop") return;
    const auto why = api::outcome_from(packet["outcome"].as_string());
    if (why && (!shim.stopped || *why == api::Outcome::cancelled)) shim.stopped = *why;
  });
}

// As Keeper::finish: no process remains, the record, then whoever listens.
void World::end(Shim& shim) {
  Group& group = groups[shim.attempt];
  api::ExitRecord record;
  record.attempt = shim.attempt;
  record.code = random.one_in(4) ? 1 : 0;
  if (shim.stopped) record.outcome = *shim.stopped;
  record.started_ms = shim.started_ms;
  record.ended_ms = wall;
  if (group.unkillable)
    record.outcome = api::Outcome::unkillable;
  else
    group.populated = false;
  shim.state = Shim::State::ended;
  const std::string text = api::to_json(record).dump();
  const bool disk_full = faults && random.one_in(12);
  if (!disk_full) {
    if (!shim::write_exit_record(shim.folder, record)) return broken("exit record not written");
    durable[shim.attempt] = text;
  }
  told[shim.attempt] = text;
  say("shim " + shim.attempt + " ended " + text + (disk_full ? " (disk full: told only)" : ""));
  if (faults && random.one_in(10)) {
    say("shim " + shim.attempt + " is killed before it says so");
    shim.state = Shim::State::dying;
    return shim.link.reset();
  }
  shim.link->announce(Json::object({{"type", "exited"}, {"record", *Json::parse(text)}}));
}

void World::kill_a_shim() {
  if (shims.empty()) return;
  Shim& shim = *shims[random.below(shims.size())];
  if (shim.state == Shim::State::dying) return;
  say("shim " + shim.attempt + " is killed");
  shim.state = Shim::State::dying;
  shim.link.reset();  // its socket ends first, its lock later
  shim.first.reset();
}

void World::reboot() {
  say("the machine restarts");
  ++boots;
  shims.clear();
  groups.clear();
}

void World::check() {
  std::map<std::int64_t, std::string> jobs;
  std::map<int, std::string> devices;
  for (const auto& [attempt, group] : groups) {
    if (!group.populated) continue;
    if (const auto [other, is_new] = jobs.emplace(group.job, attempt); !is_new)
      broken("job " + std::to_string(group.job) + " lives twice: attempts " + other->second +
             " and " + attempt);
    if (const auto [other, is_new] = devices.emplace(group.device, attempt); !is_new)
      broken("device " + std::to_string(group.device) + " has two owners: attempts " +
             other->second + " and " + attempt);
  }
}

}  // namespace loam::simulation
