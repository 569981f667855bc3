// "010MiB": some readers take such numbers for octal ones, so they are refused wherever a person writes one.
#pragma once

#include <string>
#include <string_view>

namespace loam {

bool leads_with_zero(std::string_view text);
std::string leading_zero_problem(std::string_view text);

}  // namespace loam
