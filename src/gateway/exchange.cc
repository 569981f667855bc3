#include "gateway/exchange.h"

#include "base/json.h"

namespace loam::gateway {

HttpResponse error_response(int status, std::string_view text) {
  HttpResponse response;
  response.status = status;
  response.body = Json::object({{"error", text}}).dump();
  // Somebody may answer soon: overloaded, no replica, a replica that died.
  if (status == 429 || status == 503) response.retry_after_s = 1;
  return response;
}

Exchange::~Exchange() {
  if (!answered_ && send_) answer(error_response(500, "the gateway lost this request"));
}

void Exchange::answer(HttpResponse response) {
  LOAM_ASSERT(!answered_);
  answered_ = true;
  if (const Send send = std::exchange(send_, nullptr)) send(*this, std::move(response));
}

}  // namespace loam::gateway
