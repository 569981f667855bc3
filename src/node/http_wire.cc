#include "node/http_wire.h"

#include <cstdio>

#include "base/text.h"

namespace loam::node {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// RFC 3986, 2.1; in a query '+' is a space (HTML forms, and so every client).
Result<std::string> decode(std::string_view text, bool query) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && query) {
      plain += ' ';
    } else if (text[i] != '%') {
      plain += text[i];
    } else {
      const int high = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0)
        return fail(ErrorCode::invalid, "the request's target has a broken %-escape");
      plain += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  if (plain.find('\0') != std::string::npos || !is_utf8(plain))
    return fail(ErrorCode::invalid, "the request's target is not UTF-8 text");
  return plain;
}

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Status";
  }
}

}  // namespace

Result<void> decode_target(std::string_view target, Request& request) {
  const std::size_t question = target.find('?');
  request.path = LOAM_TRY(decode(target.substr(0, question), false));
  if (!request.path.starts_with('/'))
    return fail(ErrorCode::invalid, "the request's target must begin with '/'");
  if (question == std::string_view::npos) return {};
  for (const std::string& part : split(target.substr(question + 1), '&')) {
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    const std::string_view value =
        equals == std::string::npos ? "" : std::string_view(part).substr(equals + 1);
    std::string key = LOAM_TRY(decode(std::string_view(part).substr(0, equals), true));
    request.query[std::move(key)] = LOAM_TRY(decode(value, true));
  }
  return {};
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::exists:
    case ErrorCode::busy:
    case ErrorCode::cancelled:
      return 409;
    case ErrorCode::denied:
      return 403;
    case ErrorCode::unavailable:
      return 503;
    case ErrorCode::full:
      return 507;
    case ErrorCode::too_large:
      return 413;
    case ErrorCode::corrupt:
    case ErrorCode::io:
      return 500;
  }
  return 500;
}

Json error_body(const Error& error) {
  return Json::object(
      {{"error", Json::object({{"code", error_code_name(error.code)}, {"text", error.text}})}});
}

std::string response_text(int status, const Json& body, bool close, std::string_view headers) {
  const std::string text = body.is_null() ? "" : body.dump() + "\n";
  std::string response =
      "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason_of(status)) + "\r\n";
  if (!text.empty()) response += "content-type: application/json\r\n";
  response += "content-length: " + std::to_string(text.size()) + "\r\n";
  response += headers;
  if (close) response += "connection: close\r\n";
  return response + "\r\n" + text;
}

std::string stream_head(std::string_view content_type, std::string_view headers) {
  return "HTTP/1.1 200 OK\r\ncontent-type: " + std::string(content_type) +
         "\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n" + std::string(headers) + "\r\n";
}

std::string upgrade_head(std::string_view protocol) {
  return "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: " +
         std::string(protocol) + "\r\n\r\n";
}

std::string chunk(std::string_view bytes) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  return std::string(size) + std::string(bytes) + "\r\n";
}

}  // namespace loam::node
