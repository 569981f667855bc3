#include "node/gpu_helper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/packet.h"
#include "base/process.h"
#include "base/text.h"
#include "devices/nvml.h"
#include "node/gpu_helper_main.h"
#include "node/paths.h"

namespace loam::node {
namespace {

constexpr std::chrono::seconds kInventoryTime{20};  // without its persistence mode the driver wakes each GPU
constexpr int kEndMs = 1000;  // of a killed process, unless the driver holds it
constexpr std::chrono::seconds kPause{10};          // before another process, where one died

// What the loader knows, without loading it.
bool loader_has_library() {
  const auto cache = read_file("/etc/ld.so.cache");
  return cache && cache->find(devices::kNvmlLibrary) != std::string::npos;
}

Result<std::pair<Fd, Fd>> packet_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail_errno("socketpair");
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

}  // namespace

Result<Json> GpuQuestions::ask(const std::string& question, std::chrono::milliseconds time) {
  const MutexLock lock(mutex_);
  if (unanswered_) {
    if (const auto late = answer_until(0); !late) return late;
    unanswered_ = false;
  }
  const Json packet = Json::object({{"id", ++last_id_}, {"ask", question}});
  if (send_packet(socket_.get(), packet.dump(), {}, MSG_DONTWAIT) < 0)
    return fail(ErrorCode::unavailable, "the process that asks NVIDIA's driver does not listen");
  unanswered_ = true;
  const Json answer = LOAM_TRY(answer_until(steady_ns() + time.count() * 1'000'000));
  unanswered_ = false;
  if (answer.has("error"))
    return fail(ErrorCode::unavailable, printable(answer["error"].as_string()));
  return answer;
}

// Of the last question.
Result<Json> GpuQuestions::answer_until(std::int64_t until) {
  std::vector<char> buffer(kGpuPacketBytesMax);
  for (;;) {
    pollfd waits{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const std::int64_t left_ms = std::max<std::int64_t>((until - steady_ns()) / 1'000'000, 0);
    const int ready = ::poll(&waits, 1, static_cast<int>(left_ms));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return fail(ErrorCode::unavailable, "NVIDIA's driver does not answer");
    const ReceivedPacket packet = receive_packet(socket_.get(), buffer, MSG_DONTWAIT);
    if (packet.size_bytes <= 0)
      return fail(ErrorCode::unavailable, "the process that asks NVIDIA's driver has ended");
    auto answer = LOAM_TRY(
        Json::parse(std::string_view(buffer.data(), static_cast<std::size_t>(packet.size_bytes))));
    if (answer["id"].as_int() == last_id_) return answer;
  }
}

Result<devices::GpuInventory> gpu_inventory(const std::shared_ptr<GpuQuestions>& questions) {
  if (!questions) return devices::GpuInventory{};
  const Json answer = LOAM_TRY(questions->ask("inventory", kInventoryTime));
  return devices::gpu_inventory_from(answer["inventory"]);
}

Result<void> GpuHelper::configure(const std::string& library, bool good) {
  const std::string wanted =
      !library.empty() ? library : loader_has_library() ? devices::kNvmlLibrary : "";
  if (good && questions_ && wanted == library_) return {};
  stop();
  library_ = wanted;
  return wanted.empty() ? Result<void>() : start();
}

Result<void> GpuHelper::start() {
  auto [questions, theirs] = LOAM_TRY(packet_pair());
  auto [told, telling] = LOAM_TRY(packet_pair());
  SpawnOptions options;
  options.argv = {"/proc/self/exe", kGpusWord, library_};
  options.environment = environment_of_helpers();
  options.directory = "/";
  options.descriptors = {{theirs.get(), kGpuQuestions}, {telling.get(), kGpuEvents}};
  options.own_group = true;
  const Fd nothing = LOAM_TRY(open_file("/dev/null", O_RDWR));
  options.standard_output = options.standard_error = nothing.get();
  options.before_exec = [] { return ::prctl(PR_SET_PDEATHSIG, SIGKILL); };
  child_ = LOAM_TRY(spawn(options));
  told_ = std::move(told);
  questions_ = std::make_shared<GpuQuestions>(std::move(questions));
  telling_ = loop_.watch_readable(told_.get(), [this] {
    std::array<char, 4096> buffer{};
    const ReceivedPacket packet = receive_packet(told_.get(), buffer, MSG_DONTWAIT);
    if (packet.size_bytes == 0) telling_ = {};  // its end: `ended_` tells
    if (packet.size_bytes <= 0) return;
    const auto event =
        Json::parse(std::string_view(buffer.data(), static_cast<std::size_t>(packet.size_bytes)));
    if (event) events_.befell(*event);
  });
  ended_ = loop_.watch_readable(child_.pidfd(), [this] { gone(); });
  return {};
}

void GpuHelper::gone() {
  const auto status = child_.wait();
  child_.release();
  stop();
  log_error("the process that asks NVIDIA's driver ended: " +
            (status ? describe_status(*status) : status.error().text) + "; another is started");
  pause_ = loop_.after(kPause, [this] { start_again(); });
}

void GpuHelper::start_again() {
  if (auto started = start(); started) return events_.again();
  pause_ = loop_.after(kPause, [this] { start_again(); });
}

void GpuHelper::stop() {
  pause_ = {};
  telling_ = {};
  ended_ = {};
  questions_.reset();
  told_.reset();
  if (!child_.valid()) return;
  (void)child_.signal(SIGKILL);
  pollfd ends{.fd = child_.pidfd(), .events = POLLIN, .revents = 0};
  if (::poll(&ends, 1, kEndMs) == 1)
    (void)child_.wait();
  else
    log_warning("NVIDIA's driver does not let process " + std::to_string(child_.pid()) + " end");
  child_.release();
  child_ = {};
}

}  // namespace loam::node
