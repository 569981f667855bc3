// The node's end of a shim's socket: whole JSON packets (api/attempt.h), watched by the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "node/loop.h"

namespace loam::node {

class ShimChannel {
 public:
  // `received` for each packet, `gone` once, at the end. Both may drop this object.
  ShimChannel(Loop& loop, Fd socket, std::function<void(const Json&)> received,
              std::function<void()> gone);
  ~ShimChannel();

  // Never blocks. A descriptor travels along and stays the caller's. busy: the shim does not read.
  Result<void> send(const Json& message, int descriptor = -1);

 private:
  void readable();

  Fd socket_;
  std::function<void(const Json&)> received_;
  std::function<void()> gone_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Loop::Watch watch_;  // last: ends before the socket closes
};

}  // namespace loam::node
