#include "gateway/worker_door.h"

#include <sys/epoll.h>

#include "base/log.h"

namespace loam::gateway {

Result<std::unique_ptr<WorkerDoor>> WorkerDoor::open(EventLoop& loop, const std::string& folder,
                                                     OnHello on_hello) {
  Fd listener = LOAM_TRY(channel::listen_in(folder));
  std::unique_ptr<WorkerDoor> door(new WorkerDoor(loop, std::move(listener), std::move(on_hello)));
  LOAM_CHECK(loop.add(door->listener_.get(), EPOLLIN,
                      [self = door.get()](std::uint32_t) { self->on_knock(); }));
  return door;
}

WorkerDoor::WorkerDoor(EventLoop& loop, Fd listener, OnHello on_hello)
    : loop_(loop), listener_(std::move(listener)), on_hello_(std::move(on_hello)) {}

WorkerDoor::~WorkerDoor() {
  loop_.remove(listener_.get());
  while (!visitors_.empty()) dismiss(visitors_.begin()->first);
}

void WorkerDoor::on_knock() {
  auto socket = channel::accept_from(listener_.get());
  if (!socket) return log_error("worker: " + socket.error().text);
  if (!*socket) return;
  if (visitors_.size() >= kHandshakesMax) return;
  const int fd = socket->get();
  const auto added = loop_.add(fd, EPOLLIN, [this, fd](std::uint32_t) { on_packet(fd); });
  if (!added) return log_error("worker: " + added.error().text);
  visitors_[fd] = {std::move(*socket), loop_.after(kHandshakeTimeout, [this, fd] { dismiss(fd); })};
}

void WorkerDoor::on_packet(int fd) {
  const auto packet = channel::receive_packet(fd);
  if (packet && !*packet) return;
  Fd socket = dismiss(fd);
  if (!packet) return channel::send_refusal(socket.get(), packet.error().text);
  if ((*packet)->empty()) return;  // it hung up
  auto hello = channel::parse_hello(**packet);
  if (!hello) {
    log_warning("worker refused: " + hello.error().text);
    return channel::send_refusal(socket.get(), hello.error().text);
  }
  // The callee may destroy this door: nothing of it is touched afterwards.
  const OnHello on_hello = on_hello_;
  on_hello(std::move(socket), *hello);
}

Fd WorkerDoor::dismiss(int fd) {
  const auto found = visitors_.find(fd);
  LOAM_ASSERT(found != visitors_.end());
  loop_.cancel(found->second.timer);
  loop_.remove(fd);
  Fd socket = std::move(found->second.socket);
  visitors_.erase(found);
  return socket;
}

}  // namespace loam::gateway
