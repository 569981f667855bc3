// The text side of HTTP: targets decoded, heads written, errors with their status. No sockets.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "node/http_server.h"

namespace loam::node {

// "/v1/a%20b?x=1&y" → path and query of the request. invalid: no leading slash, bad %, NUL, not
// UTF-8.
Result<void> decode_target(std::string_view target, Request& request);

int status_of(ErrorCode code);
Json error_body(const Error& error);

// Whole response; `close`: the connection ends with it. `headers`: more of them, each with its CRLF.
std::string response_text(int status, const Json& body, bool close,
                          std::string_view headers = {});
std::string stream_head(std::string_view content_type, std::string_view headers = {});
std::string upgrade_head(std::string_view protocol);
std::string chunk(std::string_view bytes);

}  // namespace loam::node
