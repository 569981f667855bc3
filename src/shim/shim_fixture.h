// For the tests of the shim: an attempt's folder, and a shim in a child process as a node would
// start it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>

#include "api/attach.h"
#include "api/attempt.h"
#include "base/files.h"
#include "base/packet.h"
#include "base/process.h"
#include "sandbox/cgroup.h"
#include "shim/shim.h"

namespace loam::shim {

inline constexpr std::uint32_t kTestId = 65'533;
inline constexpr int kPatienceMs =
    60'000;  // for a machine under load; no test waits for it to pass

// One end of a packet socket to the shim.
class Node {
 public:
  explicit Node(Fd fd) : fd_(std::move(fd)) {}
  void send(const Json& packet, int descriptor = -1) {
    const std::span<const int> descriptors(&descriptor, descriptor >= 0 ? 1 : 0);
    EXPECT_GE(send_packet(fd_.get(), packet.dump(), descriptors), 0);
  }
  // The next packet; null at the end of the connection.
  Json receive() {
    pollfd one{fd_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&one, 1, kPatienceMs), 1) << "no packet";
    std::string bytes(api::kShimPacketBytesMax, '\0');
    const ssize_t got = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0) return nullptr;
    return Json::parse(std::string_view(bytes).substr(0, static_cast<std::size_t>(got)))
        .value_or(nullptr);
  }
  api::ExitRecord receive_exit() {
    for (;;) {
      const Json packet = receive();
      if (packet.is_null()) return {};
      if (packet["type"].as_string() == "exited")
        return api::exit_record_from(packet["record"]).value();
    }
  }
  void hang_up() { fd_.reset(); }

 private:
  Fd fd_;
};

class ShimTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root: a guard that was not tried is not there";
    char path[] = "/tmp/loam-shim-test.XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    folder_ = path;
    plan_.attempt = "7";
    plan_.folder = folder_ + "/7";
    plan_.environment = {{"PATH", "/usr/bin:/bin"}};
    plan_.uid = plan_.gid = kTestId;
    plan_.grace_ms = 5'000;
    ASSERT_EQ(::mkdir(plan_.folder.c_str(), 0700), 0);
  }
  void TearDown() override {
    if (shim_ > 0) {
      ::kill(shim_, SIGKILL);
      (void)wait_for_shim();
    }
    if (cgroup_.any()) {
      EXPECT_TRUE(sandbox::kill_cgroup(cgroup_, 10'000).has_value());
      EXPECT_TRUE(sandbox::remove_cgroup(cgroup_).has_value());
      sandbox::remove_cgroup_parents(parents_);
    }
    if (folder_.empty()) return;
    EXPECT_TRUE(remove_tree(folder_).has_value());
  }

  void make_group(const sandbox::CgroupLimits& limits) {
    parents_ = sandbox::find_cgroup_parents("loam-shim-test-" + std::to_string(::getpid()));
    auto made = sandbox::create_cgroup(parents_, "7", limits);
    ASSERT_TRUE(made.has_value()) << made.error().text;
    cgroup_ = *made;
    plan_.cgroup = {cgroup_.v2, cgroup_.v1};
    plan_.memory_bytes = limits.memory_bytes;
  }

  // As recovery.md says: lock, then fork; this process keeps no copy of the locked descriptor.
  Node start(const std::string& script = "", const char* crash_at = nullptr) {
    if (!script.empty()) plan_.argv = {"/bin/sh", "-c", script};
    EXPECT_TRUE(
        write_file_atomic(plan_.folder + "/plan.json", api::to_json(plan_).dump()).has_value());
    const Fd lock(::open((plan_.folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    struct flock request {};
    request.l_type = F_WRLCK;
    EXPECT_EQ(::fcntl(lock.get(), F_OFD_SETLK, &request), 0);
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    shim_ = ::fork();
    if (shim_ == 0) {
      ::close(ends[0]);
      // As an exec would hand them over; the shim marks them.
      for (const int fd : {lock.get(), ends[1]}) (void)::fcntl(fd, F_SETFD, 0);
      if (crash_at != nullptr) ::setenv("LOAM_CRASH_AT", crash_at, 1);
      std::string arguments[] = {"loam-shim", "--lock=" + std::to_string(lock.get()),
                                 "--node=" + std::to_string(ends[1]), plan_.folder};
      char* pointers[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                          arguments[3].data(), nullptr};
      ::_exit(run_shim(4, pointers));
    }
    ::close(ends[1]);
    return Node(Fd(ends[0]));
  }

  Node connect() {
    const Fd folder(::open(plan_.folder.c_str(), O_PATH | O_CLOEXEC));
    Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "/proc/self/fd/" + std::to_string(folder.get()) + "/shim.sock";
    std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return Node(std::move(fd));
  }

  // The shim's wait status. A shim that stays is a failed test, not a hung one.
  int wait_for_shim() {
    int status = -1;
    for (int waited_ms = 0; waited_ms < kPatienceMs; waited_ms += 5) {
      if (::waitpid(shim_, &status, WNOHANG) == shim_) {
        shim_ = -1;
        return status;
      }
      ::usleep(5'000);
    }
    ADD_FAILURE() << "the shim does not go";
    return -1;
  }

  // To the end, as a node that commits at once.
  api::ExitRecord run(const std::string& script) {
    Node node = start(script);
    const api::ExitRecord record = node.receive_exit();
    node.send(Json::object({{"type", "committed"}}));
    EXPECT_EQ(wait_for_shim(), 0);
    EXPECT_EQ(api::to_json(recorded().value()).dump(), api::to_json(record).dump());
    return record;
  }

  Result<api::ExitRecord> recorded() {
    const std::string text = LOAM_TRY(read_file(plan_.folder + "/exit.json"));
    const Json document = LOAM_TRY(Json::parse(text));
    return api::exit_record_from(document);
  }
  std::string output() {
    return read_file(plan_.folder + "/output/current.log").value_or("(none)");
  }
  bool lock_is_free() {
    const Fd lock(::open((plan_.folder + "/lock").c_str(), O_RDWR | O_CLOEXEC));
    struct flock request {};
    request.l_type = F_WRLCK;
    return ::fcntl(lock.get(), F_OFD_SETLK, &request) == 0;
  }
  // Until the job has written `text`.
  void await_output(const std::string& text) {
    for (int waited_ms = 0; waited_ms < kPatienceMs; waited_ms += 5) {
      if (output().find(text) != std::string::npos) return;
      ::usleep(5'000);
    }
    FAIL() << "no '" << text << "' in: " << output();
  }

  std::string folder_;
  api::AttemptPlan plan_;
  pid_t shim_ = -1;
  sandbox::CgroupParents parents_;
  sandbox::CgroupPaths cgroup_;
};

// A client's end of an attached stream.
class Client {
 public:
  Client() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_ = Fd(ends[0]);
    theirs_ = Fd(ends[1]);
  }
  void attach(Node& node, const Json& packet = Json::object({{"type", "attach"}})) {
    node.send(packet, theirs_.get());
    theirs_.reset();
  }
  void send(api::AttachFrame type, std::string_view payload) {
    EXPECT_TRUE(write_full(ours_.get(), api::encode_frame(type, payload)).has_value());
  }
  // Collects until the exit frame, or until `text` has come.
  bool await(const std::string& text = "") {
    for (;;) {
      if (!text.empty() && output.find(text) != std::string::npos) return true;
      pollfd one{ours_.get(), POLLIN, 0};
      if (::poll(&one, 1, kPatienceMs) != 1) return false;
      char bytes[4096];
      const ssize_t got = ::read(ours_.get(), bytes, sizeof bytes);
      if (got <= 0) return text.empty() && exit.has_value();
      reader_.add(std::string_view(bytes, static_cast<std::size_t>(got)));
      while (auto frame = reader_.next().value()) take(*frame);
    }
  }
  void hang_up() { ours_.reset(); }

  std::string output, error;
  std::optional<Json> exit;

 private:
  void take(const api::Frame& frame) {
    if (frame.type == api::AttachFrame::output) output += frame.payload;
    if (frame.type == api::AttachFrame::error) error += frame.payload;
    if (frame.type == api::AttachFrame::exit) exit = Json::parse(frame.payload).value();
  }
  Fd ours_, theirs_;
  api::FrameReader reader_;
};

}  // namespace loam::shim
