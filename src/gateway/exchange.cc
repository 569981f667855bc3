#include "gateway/exchange.h"

#include "base/json.h"

namespace loam::gateway {
namespace {

std::string_view status_text(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

}  // namespace

std::string head_of(const HttpResponse& response, const trace::RequestId& id) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " ";
  head += status_text(response.status);
  head += response.inference_header ? "\r\nContent-Type: application/octet-stream"
                                    : "\r\nContent-Type: application/json";
  head += "\r\nContent-Length: " + std::to_string(response.body.size());
  head += "\r\nloam-request-id: " + id.text();
  if (response.inference_header)
    head += "\r\nInference-Header-Content-Length: " + std::to_string(*response.inference_header);
  if (response.retry_after_s != 0)
    head += "\r\nRetry-After: " + std::to_string(response.retry_after_s);
  if (!response.allow.empty()) head += "\r\nAllow: " + std::string(response.allow);
  return head + "\r\n";
}

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
