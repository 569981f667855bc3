#include "gateway/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace loam::gateway {
namespace http = boost::beast::http;
namespace {

using HeadParser = http::request_parser<http::empty_body>;
using ChunkedParser = http::request_parser<http::string_body>;

Refusal refusal_of(const boost::system::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return {431, "request head is over the limit"};
  if (error == http::error::body_limit)
    return {413, "chunked body is over the limit; send Content-Length"};
  if (error == http::error::bad_version) return {505, "expected HTTP/1.1"};
  return {400, "not an HTTP request: " + error.message()};
}

}  // namespace

struct RequestParser::Parsers {
  HeadParser head;
  std::optional<ChunkedParser> chunks;
  std::size_t chunked_bytes_max = 0;
};

RequestParser::RequestParser(std::size_t head_bytes_max, std::size_t chunked_bytes_max)
    : parsers_(std::make_unique<Parsers>()) {
  parsers_->chunked_bytes_max = chunked_bytes_max;
  parsers_->head.header_limit(static_cast<std::uint32_t>(head_bytes_max));
  parsers_->head.body_limit(boost::none);  // Content-Length is judged by the connection
}

RequestParser::~RequestParser() = default;

std::size_t RequestParser::put_head(std::string_view bytes) {
  boost::system::error_code error;
  const std::size_t used =
      parsers_->head.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) refusal_ = refusal_of(error);
  if (refusal_.status != 0 || !head_done()) return used;
  const auto& request = parsers_->head.get();
  // Two readers of one connection could see two different requests (RFC 9112, 6.1).
  if (request.count(http::field::transfer_encoding) != 0 &&
      request.count(http::field::content_length) != 0)
    refusal_ = {400, "Content-Length together with Transfer-Encoding"};
  else if (request.count(http::field::transfer_encoding) != 0 && !chunked())
    refusal_ = {501, "Transfer-Encoding other than chunked"};
  else if (chunked()) {
    parsers_->chunks.emplace(std::move(parsers_->head));
    parsers_->chunks->body_limit(parsers_->chunked_bytes_max);
    parsers_->chunks->eager(true);
  }
  return used;
}

std::size_t RequestParser::put_chunks(std::string_view bytes) {
  boost::system::error_code error;
  const std::size_t used =
      parsers_->chunks->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) refusal_ = refusal_of(error);
  return used;
}

bool RequestParser::head_done() const {
  return parsers_->chunks || parsers_->head.is_header_done();
}
bool RequestParser::chunked_done() const { return parsers_->chunks->is_done(); }
std::size_t RequestParser::chunked_bytes() const { return parsers_->chunks->get().body().size(); }
std::string RequestParser::take_chunked_body() { return std::move(parsers_->chunks->get().body()); }
bool RequestParser::chunked() const { return parsers_->chunks || parsers_->head.chunked(); }

std::optional<std::uint64_t> RequestParser::content_length() const {
  const auto length = parsers_->head.content_length();
  return length ? std::optional<std::uint64_t>(*length) : std::nullopt;
}

bool RequestParser::keep_alive() const {
  return parsers_->chunks ? parsers_->chunks->keep_alive() : parsers_->head.keep_alive();
}

namespace {

template <class Message>
std::string field(const Message& message, boost::beast::string_view name) {
  const auto found = message.find(name);
  return found == message.end() ? std::string() : std::string(found->value());
}

template <class Message>
void fill_from(const Message& message, HttpRequest& request) {
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  request.content_encoding = field(message, "Content-Encoding");
  if (message.count("Inference-Header-Content-Length") != 0)
    request.inference_header = field(message, "Inference-Header-Content-Length");
}

}  // namespace

bool RequestParser::http_1_0() const {
  return (parsers_->chunks ? parsers_->chunks->get().version() : parsers_->head.get().version()) <
         11;
}

bool RequestParser::expects_continue() const {
  const std::string expect = parsers_->chunks ? field(parsers_->chunks->get(), "Expect")
                                              : field(parsers_->head.get(), "Expect");
  return !http_1_0() && boost::beast::iequals(expect, "100-continue");
}

void RequestParser::fill(HttpRequest& request) const {
  if (parsers_->chunks)
    fill_from(parsers_->chunks->get(), request);
  else
    fill_from(parsers_->head.get(), request);
}

}  // namespace loam::gateway
