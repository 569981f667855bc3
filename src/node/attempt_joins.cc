// One more process in a running attempt, or a connection to one of its ports: checked here, then the client's connection goes to the
// shim, which asks the sandbox's pid 1 (docs/interactive.md).
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "node/attempt_routes.h"
#include "node/submission_checks.h"

namespace loam::node {
namespace {

constexpr std::size_t kPacketRoomBytes = 4096;  // of a shim's packet, for all but the command

constexpr std::int64_t kPortMax = 65'535;

Result<Json> join_packet(const Json& body) {
  if (body.has("port")) {
    const std::int64_t port = body["port"].as_int();
    if (port < 1 || port > kPortMax || body["argv"].size() > 0)
      return fail(ErrorCode::invalid, "join: expected a port from 1 to 65535, and no command with it");
    return Json::object({{"type", "join"}, {"port", port}});
  }
  Json packet = Json::object({{"type", "join"},
                              {"argv", body["argv"]},
                              {"terminal", body["terminal"].as_bool(true)},
                              {"environment", body["environment"]}});
  if (packet["argv"].size() == 0) packet.set("argv", default_shell());
  LOAM_CHECK(check_command(packet));
  if (packet.dump().size() > api::kShimPacketBytesMax - kPacketRoomBytes)
    return fail(ErrorCode::too_large, "join: command and environment are over 60 KiB");
  return packet;
}

}  // namespace

// What joins is the job's user's: whoever may not read the job's output may not join it either.
void AttemptRoutes::join(const Request& request, const std::string& target,
                         ResponderPtr responder) {
  if (request.upgrade != "loam-attach")
    return responder->reply_error(
        {ErrorCode::invalid, "join: expected the header 'Upgrade: loam-attach'"});
  const auto attempt = runs_.resolve_attempt(request.caller, target);
  if (!attempt) return responder->reply_error(attempt.error());
  const auto packet = join_packet(request.body);
  if (!packet) return responder->reply_error(packet.error());
  const auto view = node_.supervisor.find(*attempt);
  if (!view || view->state == "ended")
    return responder->reply_error(
        {ErrorCode::unavailable, printable(target) +
                                     " has ended; a terminal over its files: loam shell " +
                                     printable(target)});
  responder->upgrade(request.upgrade, [this, id = *attempt, packet = *packet](Fd stream) {
    // Ended between the look and the 101: the client sees the connection's end.
    if (auto done = node_.supervisor.hand_over(id, packet, std::move(stream)); !done)
      log_warning("join of attempt " + std::to_string(id) + ": " + done.error().text);
  });
}

}  // namespace loam::node
