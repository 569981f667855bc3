#include "base/leading_zero.h"

#include <cctype>

#include "base/text.h"

namespace loam {

bool leads_with_zero(std::string_view text) {
  text = trim(text);
  return text.size() > 1 && text[0] == '0' && std::isdigit(static_cast<unsigned char>(text[1])) != 0;
}

std::string leading_zero_problem(std::string_view text) {
  return "'" + printable(text) + "' could be read as octal; write it without the leading zero";
}

}  // namespace loam
