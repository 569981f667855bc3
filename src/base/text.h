// Text helpers: splitting, the nearest spelling, hex, sizes and durations as people write them.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace loam {

std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string_view trim(std::string_view text);
bool starts_with_path(std::string_view path, std::string_view folder);  // "a/b" under "a"; "ab" not
bool is_utf8(std::string_view text);

// The candidate nearest to `wrong` by edit distance, "" when none is near (more than a third wrong).
std::string nearest(std::string_view wrong, const std::vector<std::string>& candidates);

std::string to_hex(std::span<const std::byte> bytes);
Result<std::vector<std::byte>> from_hex(std::string_view hex);

// "2GiB", "512MB", "100" (bytes), "1.5GiB": binary (KiB MiB GiB TiB) and decimal (kB KB MB GB TB).
Result<std::uint64_t> parse_size(std::string_view text);
std::string format_size(std::uint64_t bytes);  // "1.5 GiB"
// "30s", "5ms", "1h", "2d", "1m30s", "100us". A bare number is refused: it has no unit.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);
std::string format_duration(std::chrono::nanoseconds duration);  // "1m 30s", "2.4 s", "5 ms"

// Lists of numbers as the kernel writes and reads them: "0-3,8". Reading takes white space and new
// lines between them too, and stops at the first thing that is no number.
std::string format_numbers(const std::vector<std::uint32_t>& numbers);
std::vector<std::uint32_t> parse_numbers(std::string_view text);

// For a person's terminal: control bytes of foreign text, and characters that hide or turn text, become \xNN.
std::string printable(std::string_view text);

}  // namespace loam
