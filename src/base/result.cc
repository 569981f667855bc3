#include "base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace loam {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid: return "invalid";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::exists: return "exists";
    case ErrorCode::denied: return "denied";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::busy: return "busy";
    case ErrorCode::full: return "full";
    case ErrorCode::too_large: return "too_large";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::corrupt: return "corrupt";
    case ErrorCode::io: return "io";
  }
  return "io";
}

tl::unexpected<Error> fail(ErrorCode code, std::string text) {
  return tl::unexpected(Error{code, std::move(text)});
}

static ErrorCode code_of(int error_number) {
  switch (error_number) {
    case ENOENT: return ErrorCode::not_found;
    case EACCES:
    case EPERM: return ErrorCode::denied;
    case ENOSPC:
    case EDQUOT: return ErrorCode::full;
    case EBUSY:
    case EAGAIN: return ErrorCode::busy;
    case EEXIST: return ErrorCode::exists;
    default: return ErrorCode::io;
  }
}

tl::unexpected<Error> fail_errno(std::string_view text, int error_number) {
  return fail(code_of(error_number), std::string(text) + ": " + std::strerror(error_number));
}

tl::unexpected<Error> fail_errno(std::string_view text) { return fail_errno(text, errno); }

tl::unexpected<Error> in_context(std::string_view where, Error error) {
  error.text.insert(0, std::string(where) + ": ");
  return tl::unexpected(std::move(error));
}

void assert_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "loam: bug: %s does not hold at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace loam
