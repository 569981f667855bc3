// Numbers and times as traces write them. Each returns nothing where the text is none.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace loam::sim {

// What traces write where a value was not recorded: nothing, -1, "NA", "None", "null", "nan", "-".
bool is_unknown(std::string_view text);
// A plain decimal number ("12", "0.25", "1.5e9") that is finite.
std::optional<double> number_of(std::string_view text);
// Milliseconds since 1970, or since whatever the trace counts from: seconds ("1506816000.25"), or a
// date: "2017-10-01 12:34:56", with T, fractions, Z or "+02:00"; UTC where it has no zone.
std::optional<std::int64_t> instant_ms(std::string_view text);
bool is_date(std::string_view text);
// Milliseconds: seconds ("90", "0.5"), "1h30m", "[D-]HH:MM:SS", "HH:MM:SS.5", "2 days 01:00:00".
std::optional<std::int64_t> length_ms(std::string_view text);

}  // namespace loam::sim
