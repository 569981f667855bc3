// Columns for people: cells are made printable, aligned, and never coloured by width.
#pragma once

#include <string>
#include <vector>

namespace loam::cli {

struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  // Columns (by index) whose cells stand at the right: numbers.
  std::vector<std::size_t> right;
};

// Ends with a line feed; the last column is not padded. "" cells are printed as "-".
std::string format_table(const Table& table);

// Characters, as far as a terminal's columns are characters.
std::size_t width_of(const std::string& text);

}  // namespace loam::cli
