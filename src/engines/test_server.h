// For tests: a server on a Unix socket in a temporary folder that answers each connection with what
// a function makes of its request, byte for byte, right or wrong.
#pragma once

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/files.h"
#include "base/mutex.h"

namespace loam::engines {

class TestServer {
 public:
  // Called on the server's thread with the whole request; whatever it writes to `fd` is the answer.
  // The connection closes when it returns.
  using Handler = std::function<void(const std::string& request, int fd)>;

  explicit TestServer(Handler handler) : handler_(std::move(handler)) {
    char pattern[] = "/tmp/loam-server-XXXXXX";
    folder_ = ::mkdtemp(pattern);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path().c_str());
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    LOAM_ASSERT(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) ==
                0);
    LOAM_ASSERT(::listen(listener_.get(), 16) == 0);
    auto pipe = make_pipe();
    LOAM_ASSERT(pipe.has_value());
    stop_ = std::move(*pipe);
    // Its threads take no signals: a test may send some to itself.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { serve(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  ~TestServer() {
    stop_.write_end.reset();
    thread_.join();
    for (std::thread& worker : workers_) worker.join();
    (void)remove_tree(folder_);
  }

  std::string path() const { return folder_ + "/node.sock"; }
  std::string folder() const { return folder_; }
  // First lines of the requests so far: "GET /v1/node HTTP/1.1".
  std::vector<std::string> requests() const {
    const MutexLock lock(mutex_);
    return requests_;
  }
  bool was_asked(const std::string& start) const {
    const auto all = requests();
    return std::any_of(all.begin(), all.end(),
                       [&](const std::string& line) { return line.starts_with(start); });
  }

 private:
  void serve() {
    for (;;) {
      pollfd polls[2] = {{listener_.get(), POLLIN, 0}, {stop_.read_end.get(), POLLIN, 0}};
      if (::poll(polls, 2, -1) < 0) continue;
      if (polls[1].revents != 0) return;
      Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (connection)
        workers_.emplace_back(
            [this, owned = std::move(connection)]() mutable { answer(std::move(owned)); });
    }
  }

  static std::size_t body_bytes(const std::string& head) {
    const auto at = head.find("Content-Length: ");
    return at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
  }

  void answer(Fd connection) {
    std::string request;
    char buffer[65536];
    for (;;) {
      const auto head = request.find("\r\n\r\n");
      if (head != std::string::npos && request.size() >= head + 4 + body_bytes(request)) break;
      const ssize_t count = ::recv(connection.get(), buffer, sizeof buffer, 0);
      if (count <= 0) return;
      request.append(buffer, static_cast<std::size_t>(count));
    }
    {
      const MutexLock lock(mutex_);
      requests_.push_back(request.substr(0, request.find("\r\n")));
    }
    handler_(request, connection.get());
  }

  Handler handler_;
  std::string folder_;
  Fd listener_;
  Pipe stop_;
  std::thread thread_;
  std::vector<std::thread> workers_;
  mutable Mutex mutex_;
  std::vector<std::string> requests_ LOAM_GUARDED_BY(mutex_);
};

inline void send_text(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

inline std::string json_answer(int status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

inline std::string chunked_head(const std::string& type) {
  return "HTTP/1.1 200 OK\r\nContent-Type: " + type + "\r\nTransfer-Encoding: chunked\r\n\r\n";
}

inline std::string chunk(const std::string& bytes) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  return size + bytes + "\r\n";
}

}  // namespace loam::engines
