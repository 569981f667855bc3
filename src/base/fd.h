// Owned kernel resources: a descriptor, a mapping, a child. Move-only; each closes itself.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace loam {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping() = default;
  Mapping(void* data, std::size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  // The whole of fd, shared; the fd may be closed afterwards. flags as mmap(2)'s prot.
  static Result<Mapping> of(int fd, std::size_t size_bytes, int protection);

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t size_bytes() const { return size_bytes_; }
  bool valid() const { return data_ != nullptr; }
  void reset();

 private:
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

// A process held by its pidfd: never mistaken for another one with the same number.
// Killed and reaped when the handle dies, unless released.
class Child {
 public:
  Child() = default;
  Child(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once the process has ended
  bool valid() const { return pidfd_.valid(); }
  Result<void> signal(int number) const;
  // Blocks until the end; the wait status as waitpid's.
  Result<int> wait();
  void release();
  // As release, for who waits for the end by other means.
  Fd release_pidfd();

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
};

// Reads until `size` bytes or the end; restarts after EINTR. Returns the bytes read.
Result<std::size_t> read_full(int fd, std::span<std::byte> buffer);
// Writes all or fails; restarts after EINTR; the descriptor must block.
Result<void> write_full(int fd, std::span<const std::byte> bytes);
Result<void> write_full(int fd, std::string_view text);

struct Pipe {
  Fd read_end;
  Fd write_end;
};
// O_CLOEXEC at both ends.
Result<Pipe> make_pipe();

}  // namespace loam
