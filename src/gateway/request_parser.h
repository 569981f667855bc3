// Beast's request parser behind a small face: the only translation unit that includes Beast is its
// .cc.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/exchange.h"

namespace loam::gateway {

// Why a request is refused; status 0: it is not.
struct Refusal {
  int status = 0;
  std::string text;
};

class RequestParser {
 public:
  RequestParser(std::size_t head_bytes_max, std::size_t chunked_bytes_max);
  ~RequestParser();

  // Bytes used of `bytes`; look at refusal(), head_done(), chunked_done() afterwards.
  std::size_t put_head(std::string_view bytes);
  // Only where chunked(): decodes into the body.
  std::size_t put_chunks(std::string_view bytes);

  const Refusal& refusal() const { return refusal_; }
  bool head_done() const;
  bool chunked_done() const;
  std::size_t chunked_bytes() const;  // so far
  std::string take_chunked_body();

  // Once the head is done.
  bool chunked() const;
  std::optional<std::uint64_t> content_length() const;
  bool keep_alive() const;
  bool http_1_0() const;
  bool expects_continue() const;
  void fill(HttpRequest& request) const;

 private:
  struct Parsers;
  std::unique_ptr<Parsers> parsers_;
  Refusal refusal_;
};

}  // namespace loam::gateway
