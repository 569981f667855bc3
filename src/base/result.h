// Expected failure as a value. Libraries return Result; the caller that decides logs once.
// A bug is LOAM_ASSERT, which stays on in release builds.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace loam {

enum class ErrorCode {
  invalid,      // what was asked for is wrong: the user mends it
  not_found,
  exists,
  denied,       // not this user's right
  unavailable,  // not now, or not on this host
  busy,
  full,         // no space left
  too_large,    // over a stated limit
  cancelled,
  corrupt,      // bytes that should be ours are not what they were
  io,           // a system call failed for a reason outside these
};

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::io;
  std::string text;
};

template <class T>
using Result = tl::expected<T, Error>;

// The name used in JSON ("not_found").
std::string_view error_code_name(ErrorCode code);

tl::unexpected<Error> fail(ErrorCode code, std::string text);

// From errno: "TEXT: No such file or directory", with ENOENT → not_found, EACCES/EPERM → denied,
// ENOSPC/EDQUOT → full, EBUSY/EAGAIN → busy, EEXIST → exists, else io.
tl::unexpected<Error> fail_errno(std::string_view text, int error_number);
tl::unexpected<Error> fail_errno(std::string_view text);

// Prefixes "WHERE: " so that the reader sees each layer's context.
tl::unexpected<Error> in_context(std::string_view where, Error error);

[[noreturn]] void assert_failed(const char* expression, const char* file, int line);

}  // namespace loam

#define LOAM_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::loam::assert_failed(#expression, __FILE__, __LINE__))

// `auto x = LOAM_TRY(f());` yields f's value or returns its error. For Result<void> use LOAM_CHECK.
#define LOAM_TRY(expression)                                                  \
  ({                                                                          \
    auto loam_try_result = (expression);                                      \
    if (!loam_try_result) return tl::unexpected(std::move(loam_try_result.error())); \
    std::move(*loam_try_result);                                              \
  })

#define LOAM_CHECK(expression)                                                \
  do {                                                                        \
    auto loam_check_result = (expression);                                    \
    if (!loam_check_result) return tl::unexpected(std::move(loam_check_result.error())); \
  } while (false)
