// One HTTP/1.1 request over a connected stream socket and its answer as it arrives. The caller
// polls fd() and calls read(); nothing here waits, so that one loop can follow several answers and
// a signal.
//
//   HttpRequest ── start() ──▶ socket ── read() ──▶ head(), decoded body bytes ── … ──▶ complete
//
// Trust: the answer is foreign bytes: head at most 64 KiB, framing checked by Beast's parser (the
// only place that includes it).
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace loam::engines {

inline constexpr std::size_t kRequestBodyBytesMax = 16u << 20;  // the node's own limit
inline constexpr unsigned kHeadBytesMax = 64u << 10;

struct HttpRequest {
  std::string method = "GET";
  std::string target;   // path and query, percent-encoded
  std::string body;     // JSON, "" for none
  std::string upgrade;  // a protocol's name, "" for none
};

struct HttpHead {
  int status = 0;
  std::string content_type;
  std::map<std::string, std::string> own;  // the node's own fields, loam-…, in lower case
};

class Exchange {
 public:
  // Writes the whole request; the socket may block.
  static Result<Exchange> start(Fd socket, const HttpRequest& request);
  Exchange(Exchange&&) noexcept;
  Exchange& operator=(Exchange&&) noexcept;
  ~Exchange();

  int fd() const;
  // Takes what the socket holds, without waiting; body bytes are appended to `body`. True: the
  // answer is complete. An answer that breaks off or is no HTTP is corrupt.
  Result<bool> read(std::string& body);
  bool has_head() const;
  const HttpHead& head() const;  // meaningful once has_head()

  // After status 101: the connection, and what came after the head.
  struct Upgraded {
    Fd connection;
    std::string early;
  };
  Upgraded take_upgraded();

 private:
  struct Impl;
  explicit Exchange(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// For one part of a path, and for a query's value: all but unreserved characters (RFC 3986, 2.3) as
// %XX.
std::string percent_encoded(std::string_view text);
// The same for a path of several parts: '/' stays.
std::string percent_encoded_path(std::string_view path);

}  // namespace loam::engines
