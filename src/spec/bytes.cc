#include "spec/bytes.h"

#include "base/text.h"

namespace loam::spec {
namespace {

// Walks over characters and keeps the place of the next one. Columns count characters, as editors
// do.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool done() const { return at_ >= text_.size(); }
  Place place() const { return place_; }
  unsigned char byte() const { return static_cast<unsigned char>(text_[at_]); }
  unsigned char next_byte() const {
    return at_ + 1 < text_.size() ? static_cast<unsigned char>(text_[at_ + 1]) : 0;
  }
  // The length of the character here, 0 where the bytes are not UTF-8.
  std::size_t character() const {
    for (std::size_t length = 1; length <= 4 && at_ + length <= text_.size(); ++length)
      if (is_utf8(text_.substr(at_, length))) return length;
    return 0;
  }
  void advance(std::size_t length) {
    if (text_[at_] == '\n') {
      ++place_.line;
      place_.column = 1;
    } else {
      ++place_.column;
    }
    at_ += length;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  Place place_{1, 1};
};

std::string hex_byte(unsigned char byte) {
  const std::byte bytes[] = {static_cast<std::byte>(byte)};
  return "0x" + to_hex(bytes);
}

std::string control_problem(const Cursor& cursor) {
  if (cursor.byte() == '\r')
    return "a carriage return without a line feed; end lines with LF or CRLF";
  return "the control byte " + hex_byte(cursor.byte()) +
         "; expected text, is this the right file? (write such bytes as escapes in double quotes)";
}

bool is_control(const Cursor& cursor) {
  const unsigned char byte = cursor.byte();
  if (byte == '\r') return cursor.next_byte() != '\n';
  return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
}

}  // namespace

std::vector<Problem> check_bytes(std::string_view text) {
  if (text.size() > kFileBytesMax)
    return {{{1, 1},
             "",
             "the file has more than " + std::to_string(kFileBytesMax) +
                 " bytes, which is the most that is read; data belongs in files of its own"}};
  for (Cursor cursor(text); !cursor.done();) {
    const std::size_t length = cursor.character();
    if (length == 0)
      return {{cursor.place(), "",
               "the byte " + hex_byte(cursor.byte()) +
                   " is not UTF-8; save the file with UTF-8 encoding"}};
    if (is_control(cursor)) return {{cursor.place(), "", control_problem(cursor)}};
    cursor.advance(length);
  }
  return {};
}

Indentation::Indentation(std::string_view text) {
  for (const std::string& line : split(text, '\n')) {
    Line found;
    const auto content = line.find_first_not_of(" \t\r");
    const auto tab = line.find('\t');
    if (content != std::string::npos) found.content_column = static_cast<int>(content) + 1;
    if (tab != std::string::npos && tab < content) found.tab_column = static_cast<int>(tab) + 1;
    lines_.push_back(found);
  }
}

int Indentation::tab_column(int line) const {
  if (line < 1 || static_cast<std::size_t>(line) > lines_.size()) return 0;
  return lines_[static_cast<std::size_t>(line) - 1].tab_column;
}

int Indentation::content_column(int line) const {
  if (line < 1 || static_cast<std::size_t>(line) > lines_.size()) return 0;
  return lines_[static_cast<std::size_t>(line) - 1].content_column;
}

}  // namespace loam::spec
