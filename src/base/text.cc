#include "base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/leading_zero.h"

namespace loam {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (;;) {
    const auto end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string joined;
  for (const std::string& part : parts) {
    if (&part != parts.data()) joined += separator;
    joined += part;
  }
  return joined;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0)
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.remove_suffix(1);
  return text;
}

bool starts_with_path(std::string_view path, std::string_view folder) {
  while (folder.size() > 1 && folder.ends_with('/')) folder.remove_suffix(1);
  if (!path.starts_with(folder)) return false;
  return path.size() == folder.size() || folder.ends_with('/') || path[folder.size()] == '/';
}

// RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    std::size_t length = 0;
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (lead < 0x80) length = 1;
    if (lead >= 0xC2 && lead <= 0xDF) length = 2;
    if (lead >= 0xE0 && lead <= 0xEF) length = 3;
    if (lead >= 0xF0 && lead <= 0xF4) length = 4;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if (byte < (k == 1 ? low : 0x80u) || byte > (k == 1 ? high : 0xBFu)) return false;
    }
    i += length;
  }
  return true;
}

// Edits between two words; two neighbours swapped count as one (optimal string alignment).
static std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, changed});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string nearest(std::string_view wrong, const std::vector<std::string>& candidates) {
  static constexpr std::size_t kLengthMax = 64;
  if (wrong.size() > kLengthMax) return "";
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, wrong.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLengthMax) continue;
    const std::size_t distance = edit_distance(wrong, candidate);
    if (distance < best_distance && distance < std::max(wrong.size(), candidate.size())) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    hex += kDigits[std::to_integer<unsigned>(byte) >> 4];
    hex += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

Result<std::vector<std::byte>> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return fail(ErrorCode::invalid, "odd number of hex digits");
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = hex_value(hex[i]);
    const int low = hex_value(hex[i + 1]);
    if (high < 0 || low < 0) return fail(ErrorCode::invalid, "not lower-case hex");
    bytes.push_back(static_cast<std::byte>(high * 16 + low));
  }
  return bytes;
}

namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array kSizeUnits{Unit{"", 1},
                                Unit{"B", 1},
                                Unit{"KiB", 1024.0},
                                Unit{"MiB", 1048576.0},
                                Unit{"GiB", 1073741824.0},
                                Unit{"TiB", 1099511627776.0},
                                Unit{"kB", 1e3},
                                Unit{"KB", 1e3},
                                Unit{"MB", 1e6},
                                Unit{"GB", 1e9},
                                Unit{"TB", 1e12}};

constexpr std::array kDurationUnits{Unit{"ns", 1},     Unit{"us", 1e3}, Unit{"ms", 1e6},
                                    Unit{"s", 1e9},    Unit{"m", 60e9}, Unit{"h", 3600e9},
                                    Unit{"d", 86400e9}};

// Takes "12.5" off the front; -1 where there is no number.
double take_number(std::string_view& text) {
  std::size_t end = 0;
  while (end < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[end])) != 0 || text[end] == '.'))
    ++end;
  if (end == 0 || text[0] == '.' ||
      std::count(text.begin(), text.begin() + static_cast<long>(end), '.') > 1)
    return -1;
  const double value = std::strtod(std::string(text.substr(0, end)).c_str(), nullptr);
  text.remove_prefix(end);
  return value;
}

std::string_view take_letters(std::string_view& text) {
  std::size_t end = 0;
  while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end])) != 0) ++end;
  const auto letters = text.substr(0, end);
  text.remove_prefix(end);
  return letters;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  if (leads_with_zero(text)) return fail(ErrorCode::invalid, leading_zero_problem(text));
  std::string_view rest = trim(text);
  const double number = take_number(rest);
  rest = trim(rest);
  for (const Unit& unit : kSizeUnits) {
    if (number < 0 || rest != unit.name) continue;
    const double bytes = number * unit.factor;
    if (bytes > 9e15)
      return fail(ErrorCode::invalid, "size '" + std::string(text) + "' is too large");
    return static_cast<std::uint64_t>(bytes);
  }
  return fail(ErrorCode::invalid,
              "'" + std::string(text) +
                  "' is not a size; expected a number with B, KiB, MiB, GiB, TiB, "
                  "kB, MB, GB or TB, such as 2GiB");
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kNames[unit]);
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  if (leads_with_zero(text)) return fail(ErrorCode::invalid, leading_zero_problem(text));
  std::string_view rest = trim(text);
  double total = 0;
  bool any = false;
  while (!rest.empty()) {
    const double number = take_number(rest);
    const auto letters = take_letters(rest);
    const auto unit =
        std::find_if(kDurationUnits.begin(), kDurationUnits.end(),
                     [&](const Unit& candidate) { return candidate.name == letters; });
    any = number >= 0 && unit != kDurationUnits.end();
    if (!any) break;
    total += number * unit->factor;
  }
  if (!any)
    return fail(ErrorCode::invalid,
                "'" + std::string(text) +
                    "' is not a duration; expected a number with us, ms, s, m, h or d, "
                    "such as 30s");
  if (total > 9e18)
    return fail(ErrorCode::invalid, "duration '" + std::string(text) + "' is too long");
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

std::string format_duration(std::chrono::nanoseconds duration) {
  const double seconds = static_cast<double>(duration.count()) / 1e9;
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long>(seconds);
  if (whole < 3600) return fmt::format("{}m {}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d {}h", whole / 86400, whole / 3600 % 24);
}

// How many bytes the character at the front takes; 0: it is none (is_utf8).
static std::size_t character_length(std::string_view text) {
  for (std::size_t length = 1; length <= 4 && length <= text.size(); ++length)
    if (is_utf8(text.substr(0, length))) return length;
  return 0;
}

// A terminal may take U+0080 to U+009F (and a lone byte of that range) for what ESC begins.
static bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1)
    return (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
  return character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
}

// Shown as nothing, or turning the order of what follows: a text would not be what it looks like.
static bool is_unseen(std::string_view character) {
  static constexpr std::string_view kUnseen[] = {
      "\u200B", "\u200E", "\u200F", "\u202A", "\u202B", "\u202C", "\u202D",
      "\u202E", "\u2060", "\u2066", "\u2067", "\u2068", "\u2069", "\uFEFF"};
  return std::find(std::begin(kUnseen), std::end(kUnseen), character) != std::end(kUnseen);
}

std::string format_numbers(const std::vector<std::uint32_t>& numbers) {
  std::vector<std::uint32_t> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::string text;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t last = i;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(sorted[i]);
    if (last > i) text += '-' + std::to_string(sorted[last]);
    i = last + 1;
  }
  return text;
}

std::vector<std::uint32_t> parse_numbers(std::string_view text) {
  constexpr std::uint32_t kRangeMax = 1u << 16;
  std::vector<std::uint32_t> numbers;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (at != end) {
    std::uint32_t first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc()) break;
    std::uint32_t last = first;
    if (read.ptr != end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
      if (read.ec != std::errc() || last < first || last - first > kRangeMax) break;
    }
    for (std::uint64_t number = first; number <= last; ++number)
      numbers.push_back(static_cast<std::uint32_t>(number));
    at = read.ptr;
    while (at != end && (*at == ',' || *at == ' ' || *at == '\n' || *at == '\t')) ++at;
  }
  return numbers;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || is_control(character) || is_unseen(character)) {
      for (const char c : character) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out;
}

}  // namespace loam
