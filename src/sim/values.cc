#include "sim/values.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

#include "base/text.h"

namespace loam::sim {
namespace {

constexpr double kSecondsMax = 1e14;  // beyond it no time is meant
constexpr std::int64_t kMsPerSecond = 1000;
constexpr std::int64_t kMsPerMinute = 60 * kMsPerSecond;
constexpr std::int64_t kMsPerHour = 60 * kMsPerMinute;
constexpr std::int64_t kMsPerDay = 24 * kMsPerHour;

std::optional<std::int64_t> seconds_as_ms(std::string_view text) {
  const auto seconds = number_of(text);
  if (!seconds || std::abs(*seconds) > kSecondsMax) return std::nullopt;
  return std::llround(*seconds * 1000);
}

// Reads `text` from its front.
class Reader {
 public:
  explicit Reader(std::string_view text) : left_(text) {}
  bool at_end() const { return left_.empty(); }
  bool skip(char character) {
    if (!left_.starts_with(character)) return false;
    left_.remove_prefix(1);
    return true;
  }
  bool skip_any(std::string_view characters) {
    return std::any_of(characters.begin(), characters.end(),
                       [&](char character) { return skip(character); });
  }
  bool skip_word(std::string_view word) {
    if (!left_.starts_with(word)) return false;
    left_.remove_prefix(word.size());
    return true;
  }
  struct Digits {
    std::size_t least = 1, most = 9;
  };
  std::optional<std::int64_t> digits(Digits count) {
    std::size_t length = 0;
    while (length < left_.size() && length < count.most && left_[length] >= '0' &&
           left_[length] <= '9')
      ++length;
    if (length < count.least) return std::nullopt;
    std::int64_t value = 0;
    std::from_chars(left_.data(), left_.data() + length, value);
    left_.remove_prefix(length);
    return value;
  }
  // ".5" → 500; what is finer than a millisecond is left out.
  std::int64_t fraction_ms() {
    std::int64_t value = 0, unit = 100;
    while (!left_.empty() && left_[0] >= '0' && left_[0] <= '9') {
      value += (left_[0] - '0') * unit;
      unit /= 10;
      left_.remove_prefix(1);
    }
    return value;
  }

 private:
  std::string_view left_;
};

// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": days since 1970-01-01.
std::int64_t days_from_civil(std::int64_t year, std::int64_t month, std::int64_t day) {
  year -= month <= 2;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const std::int64_t day_of_era =
      year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

bool is_day(std::int64_t year, std::int64_t month, std::int64_t day) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (year < 1900 || month < 1 || month > 12 || day < 1) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return day <= kDays[month - 1] + (month == 2 && leap ? 1 : 0);
}

// "12:34[:56[.789]]" at the reader's place.
std::optional<std::int64_t> time_of_day(Reader& reader) {
  const auto hour = reader.digits({.least = 1, .most = 2});
  if (!hour || !reader.skip(':')) return std::nullopt;
  const auto minute = reader.digits({.least = 2, .most = 2});
  if (!minute || *hour > 23 || *minute > 59) return std::nullopt;
  std::int64_t ms = *hour * kMsPerHour + *minute * kMsPerMinute;
  if (!reader.skip(':')) return ms;
  const auto second = reader.digits({.least = 2, .most = 2});
  if (!second || *second > 60) return std::nullopt;  // 60: a leap second
  ms += *second * kMsPerSecond;
  if (reader.skip_any(".,")) ms += reader.fraction_ms();
  return ms;
}

std::optional<std::int64_t> zone_ms(Reader& reader) {
  reader.skip(' ');
  if (reader.at_end() || reader.skip_word("UTC") || reader.skip_word("GMT") || reader.skip('Z') ||
      reader.skip('z'))
    return 0;
  const bool minus = reader.skip('-');
  if (!minus && !reader.skip('+')) return std::nullopt;
  const auto hours = reader.digits({.least = 2, .most = 2});
  if (!hours || *hours > 14) return std::nullopt;
  reader.skip(':');
  const std::int64_t minutes =
      reader.at_end() ? 0 : reader.digits({.least = 2, .most = 2}).value_or(60);
  if (minutes > 59) return std::nullopt;
  return (*hours * kMsPerHour + minutes * kMsPerMinute) * (minus ? -1 : 1);
}

std::optional<std::int64_t> date_ms(std::string_view text) {
  Reader reader(text);
  const auto year = reader.digits({.least = 4, .most = 4});
  if (!year || !reader.skip_any("-/")) return std::nullopt;
  const auto month = reader.digits({.least = 1, .most = 2});
  if (!month || !reader.skip_any("-/")) return std::nullopt;
  const auto day = reader.digits({.least = 1, .most = 2});
  if (!day || !is_day(*year, *month, *day)) return std::nullopt;
  std::int64_t ms = days_from_civil(*year, *month, *day) * kMsPerDay;
  if (reader.at_end()) return ms;
  if (!reader.skip_any("T t")) return std::nullopt;
  const auto time = time_of_day(reader);
  const auto zone = time ? zone_ms(reader) : std::nullopt;
  if (!zone || !reader.at_end()) return std::nullopt;
  return ms + *time - *zone;
}

// "[D-]HH:MM:SS[.5]", "D days HH:MM:SS": hours may be over 23 where there are no days.
std::optional<std::int64_t> clock_length_ms(std::string_view text) {
  Reader reader(text);
  std::int64_t ms = 0;
  auto first = reader.digits({});
  if (!first) return std::nullopt;
  if (reader.skip('-') || reader.skip_word(" days ") || reader.skip_word(" days, ") ||
      reader.skip_word(" day ") || reader.skip_word(" day, ")) {
    ms = *first * kMsPerDay;
    first = reader.digits({.least = 1, .most = 2});
    if (!first) return std::nullopt;
  }
  if (!reader.skip(':')) return std::nullopt;
  const auto minutes = reader.digits({.least = 2, .most = 2});
  if (!minutes || *minutes > 59 || !reader.skip(':')) return std::nullopt;
  const auto seconds = reader.digits({.least = 2, .most = 2});
  if (!seconds || *seconds > 59) return std::nullopt;
  ms += *first * kMsPerHour + *minutes * kMsPerMinute + *seconds * kMsPerSecond;
  if (reader.skip('.')) ms += reader.fraction_ms();
  return reader.at_end() ? std::optional(ms) : std::nullopt;
}

}  // namespace

bool is_unknown(std::string_view text) {
  if (text.empty() || text == "-1" || text == "-" || text == "-1.0" || text == "\\N") return true;
  if (text.size() > 4) return false;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char one) { return std::tolower(one); });
  return lower == "na" || lower == "n/a" || lower == "nan" || lower == "nat" || lower == "none" ||
         lower == "null";
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool is_date(std::string_view text) { return date_ms(text).has_value(); }

std::optional<std::int64_t> instant_ms(std::string_view text) {
  const auto seconds = seconds_as_ms(text);
  return seconds ? seconds : date_ms(text);
}

std::optional<std::int64_t> length_ms(std::string_view text) {
  if (const auto seconds = seconds_as_ms(text)) return seconds;
  if (const auto clock = clock_length_ms(text)) return clock;
  const auto duration = parse_duration(text);
  if (!duration) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::milliseconds>(*duration).count();
}

}  // namespace loam::sim
