#include "store/listing.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>

#include "base/text.h"

namespace loam::store {
namespace {

constexpr std::string_view kHeader = "loam-tree 1\n";

// Space, '%', control bytes and DEL become %XX; all else, UTF-8 or not, stays. "" becomes ".",
// which no path is.
std::string escape(std::string_view path) {
  static constexpr char kHex[] = "0123456789abcdef";
  if (path.empty()) return ".";
  std::string text;
  text.reserve(path.size());
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte != '%' && byte != 0x7F) {
      text += c;
    } else {
      text += '%';
      text += kHex[byte >> 4];
      text += kHex[byte & 15];
    }
  }
  return text;
}

Result<std::string> unescape(std::string_view text) {
  std::string path;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      path += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return fail(ErrorCode::corrupt, "escape cut short");
    const auto byte = LOAM_TRY(from_hex(text.substr(i + 1, 2)));
    path += static_cast<char>(byte[0]);
    i += 2;
  }
  return path;
}

std::string mode_and_ids(const ListingEntry& entry) {
  char text[48];
  std::snprintf(text, sizeof text, "%04o %u %u ", entry.mode, entry.uid, entry.gid);
  return text;
}

void append_line(std::string& text, const ListingEntry& entry) {
  switch (entry.type) {
    case ListingEntry::Type::folder:
      text += "d " + mode_and_ids(entry) + escape(entry.path);
      break;
    case ListingEntry::Type::symlink:
      text += "l " + mode_and_ids(entry) + escape(entry.path) + " " + escape(entry.target);
      break;
    case ListingEntry::Type::file:
      text += "f " + mode_and_ids(entry) + escape(entry.path) + " " +
              std::to_string(entry.size_bytes) + " " + entry.content.hex() + " " +
              entry.object.hex();
      break;
  }
  text += '\n';
}

template <class Number>
Result<Number> number(std::string_view text, int base) {
  Number value{};
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size())
    return fail(ErrorCode::corrupt, "not a number: " + printable(text));
  return value;
}

Result<ListingEntry> parse_line(std::string_view line) {
  const std::vector<std::string> fields = split(line, ' ');
  ListingEntry entry;
  const std::string& kind = fields[0];
  const std::size_t wanted = kind == "d" ? 5 : kind == "l" ? 6 : kind == "f" ? 8 : 0;
  if (wanted == 0 || fields.size() != wanted) return fail(ErrorCode::corrupt, "unknown line");
  entry.mode = LOAM_TRY(number<std::uint32_t>(fields[1], 8));
  entry.uid = LOAM_TRY(number<std::uint32_t>(fields[2], 10));
  entry.gid = LOAM_TRY(number<std::uint32_t>(fields[3], 10));
  if (fields[4] != ".") entry.path = LOAM_TRY(unescape(fields[4]));  // the tree's own folder; a link may well lead to "."
  LOAM_CHECK(check_path(entry.path));
  if (kind == "d") {
    entry.type = ListingEntry::Type::folder;
  } else if (kind == "l") {
    entry.type = ListingEntry::Type::symlink;
    entry.target = LOAM_TRY(unescape(fields[5]));
  } else {
    entry.size_bytes = LOAM_TRY(number<std::uint64_t>(fields[5], 10));
    entry.content = LOAM_TRY(Digest::parse(fields[6]));
    entry.object = LOAM_TRY(Digest::parse(fields[7]));
  }
  return entry;
}

}  // namespace

std::string listing_text(const std::vector<ListingEntry>& entries) {
  std::string text(kHeader);
  text.reserve(kHeader.size() + entries.size() * 200);
  for (const ListingEntry& entry : entries) append_line(text, entry);
  return text;
}

TreeInfo info_of(const std::vector<ListingEntry>& entries) {
  TreeInfo info;
  std::set<Digest> contents;
  for (const ListingEntry& entry : entries) {
    if (entry.type != ListingEntry::Type::file) continue;
    ++info.files;
    if (contents.insert(entry.content).second) info.size_bytes += entry.size_bytes;
  }
  return info;
}

Result<std::vector<ListingEntry>> parse_listing(std::string_view text) {
  if (!text.starts_with(kHeader)) return fail(ErrorCode::corrupt, "no listing of version 1");
  text.remove_prefix(kHeader.size());
  std::vector<ListingEntry> entries;
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return fail(ErrorCode::corrupt, "last line cut short");
    if (entries.size() == kTreeEntriesMax) return fail(ErrorCode::too_large, "too many entries");
    auto entry = parse_line(text.substr(0, end));
    if (!entry) return in_context("line " + std::to_string(entries.size() + 2), entry.error());
    if (!entries.empty() && entry->path <= entries.back().path)
      return fail(ErrorCode::corrupt, "entries out of order");
    entries.push_back(std::move(*entry));
    text.remove_prefix(end + 1);
  }
  if (entries.empty() || !entries.front().path.empty() ||
      entries.front().type != ListingEntry::Type::folder)
    return fail(ErrorCode::corrupt, "no top folder");
  return entries;
}

Result<void> check_path(std::string_view path) {
  if (path.empty()) return {};
  const auto wrong = [&](const std::string& why) {
    return fail(ErrorCode::invalid, "path '" + printable(path.substr(0, 200)) + "': " + why);
  };
  if (path.size() > kPathBytesMax)
    return fail(ErrorCode::too_large, "path '" + printable(path.substr(0, 80)) + "…': over " +
                                          std::to_string(kPathBytesMax) + " bytes");
  if (path.front() == '/') return wrong("is absolute; expected one below the tree's top");
  if (path.find('\0') != std::string_view::npos) return wrong("holds a NUL byte");
  std::size_t depth = 0;
  for (const std::string& part : split(path, '/')) {
    if (part.empty() || part == "." || part == "..")
      return wrong("has an empty, . or .. component");
    if (part.size() > kComponentBytesMax) return wrong("has a component over 255 bytes");
    if (++depth > kPathDepthMax) return wrong("is more than 256 folders deep");
  }
  return {};
}

}  // namespace loam::store
