// Request ids are ULIDs (github.com/ulid/spec) in lower case behind "req-".
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/text.h"
#include "trace/request_log.h"

namespace loam::trace {
namespace {

constexpr std::string_view kPrefix = "req-";
constexpr std::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";  // Crockford's base 32
constexpr std::size_t kDigits = 26;
constexpr std::size_t kTimeBytes = 6;

// -1 for what is no digit. Crockford: case does not matter, i and l read as 1, o as 0.
int digit_value(char c) {
  if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (c == 'i' || c == 'l') c = '1';
  if (c == 'o') c = '0';
  const auto at = kAlphabet.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

}  // namespace

// 26 digits of 5 bits are 130: two zero bits come first.
std::string RequestId::text() const {
  std::string result(kPrefix);
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    unsigned value = 0;
    for (std::size_t bit = digit * 5; bit < digit * 5 + 5; ++bit) {
      value <<= 1;
      if (bit >= 2)
        value |= (std::to_integer<unsigned>(bytes[(bit - 2) / 8]) >> (7 - (bit - 2) % 8)) & 1u;
    }
    result += kAlphabet[value];
  }
  return result;
}

std::int64_t RequestId::time_ms() const {
  std::int64_t time = 0;
  for (std::size_t i = 0; i < kTimeBytes; ++i)
    time = (time << 8) | std::to_integer<std::int64_t>(bytes[i]);
  return time;
}

Result<RequestId> RequestId::parse(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorCode::invalid,
                "'" + printable(text.substr(0, 40)) +
                    "' is no request id; expected req- and 26 letters and digits");
  };
  if (!text.starts_with(kPrefix) || text.size() != kPrefix.size() + kDigits) return wrong();
  RequestId id;
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    const int value = digit_value(text[kPrefix.size() + digit]);
    if (value < 0 || (digit == 0 && value > 7)) return wrong();  // over 128 bits
    for (std::size_t i = 0; i < 5; ++i) {
      const std::size_t bit = digit * 5 + i;
      if (bit >= 2 && ((value >> (4 - i)) & 1) != 0)
        id.bytes[(bit - 2) / 8] |= std::byte{static_cast<unsigned char>(1u << (7 - (bit - 2) % 8))};
    }
  }
  return id;
}

RequestIds::RequestIds() {
  std::size_t done = 0;
  while (done < tail_.size()) {
    const ssize_t count = ::getrandom(tail_.data() + done, tail_.size() - done, 0);
    LOAM_ASSERT(count > 0 || errno == EINTR);
    if (count > 0) done += static_cast<std::size_t>(count);
  }
}

RequestId RequestIds::next(std::int64_t now_ms) {
  for (std::size_t i = tail_.size(); i-- > 0;) {
    tail_[i] = static_cast<std::byte>(std::to_integer<unsigned>(tail_[i]) + 1);
    if (tail_[i] != std::byte{0}) break;  // no carry
  }
  RequestId id;
  for (std::size_t i = 0; i < kTimeBytes; ++i)
    id.bytes[i] = static_cast<std::byte>((now_ms >> (8 * (kTimeBytes - 1 - i))) & 0xFF);
  std::copy(tail_.begin(), tail_.end(), id.bytes.begin() + kTimeBytes);
  return id;
}

}  // namespace loam::trace
