#include "shim/rank_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace loam::shim {
namespace {

constexpr std::size_t kReadBytes = 32 * 1024;
constexpr std::size_t kLineBytesMax = 8 * 1024;

}  // namespace

void RankStreams::take_pipes(std::vector<Fd> outputs) {
  for (Fd& fd : outputs) {
    (void)::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
    std::string label = "[" + std::to_string(streams_.size()) + "] ";
    streams_.push_back({.fd = std::move(fd), .label = std::move(label), .line = {}});
  }
}

void RankStreams::add_polls(std::vector<pollfd>& polls) const {
  for (const Stream& stream : streams_) polls.push_back({stream.fd.get(), POLLIN, 0});
}

void RankStreams::handle(const pollfd* polls, const Sink& sink) {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (polls[i].revents != 0) read_once(streams_[i], sink);
}

void RankStreams::drain(const Sink& sink) {
  for (Stream& stream : streams_) {
    while (read_once(stream, sink)) {
    }
    if (!stream.line.empty()) sink(stream.label + std::exchange(stream.line, {}) + "\n");
  }
}

// False at the end of the stream and where there is nothing now.
bool RankStreams::read_once(Stream& stream, const Sink& sink) {
  if (!stream.fd) return false;
  std::array<char, kReadBytes> bytes;
  const ssize_t count = ::read(stream.fd.get(), bytes.data(), bytes.size());
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {
    stream.fd.reset();
    return false;
  }
  std::string told;
  for (const char c : std::string_view(bytes.data(), static_cast<std::size_t>(count))) {
    stream.line += c;
    const bool ended = c == '\n' || c == '\r';
    if (!ended && stream.line.size() < kLineBytesMax) continue;
    told += stream.label + std::exchange(stream.line, {});
    if (!ended) told += '\n';
  }
  if (!told.empty()) sink(told);
  return true;
}

}  // namespace loam::shim
