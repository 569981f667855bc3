#include "cli/table.h"

#include <algorithm>

#include "base/text.h"

namespace loam::cli {
namespace {

// A cell is one line, whatever it holds.
std::string cell_text(const std::string& cell) {
  if (cell.empty()) return "-";
  std::string text = printable(cell);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return text;
}

}  // namespace

std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string format_table(const Table& table) {
  std::vector<std::vector<std::string>> lines{table.head};
  lines.insert(lines.end(), table.rows.begin(), table.rows.end());
  std::vector<std::size_t> widths(table.head.size(), 0);
  for (auto& line : lines) {
    line.resize(table.head.size());
    for (std::size_t i = 0; i < line.size(); ++i) {
      line[i] = cell_text(line[i]);
      widths[i] = std::max(widths[i], width_of(line[i]));
    }
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - width_of(line[i]), ' ');
      const bool right = std::find(table.right.begin(), table.right.end(), i) != table.right.end();
      row += right ? padding + line[i] : line[i] + padding;
      if (i + 1 < line.size()) row += "  ";
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

}  // namespace loam::cli
