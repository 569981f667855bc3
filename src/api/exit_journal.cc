#include "api/exit_journal.h"

#include <span>

#include "base/crc32c.h"

namespace loam::api {
namespace {

constexpr std::size_t kSumDigits = 8;

std::string sum_of(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::uint32_t sum = crc32c(std::as_bytes(std::span(text)));
  std::string digits(kSumDigits, '0');
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, sum >>= 4)
    *digit = kDigits[sum & 15];
  return digits;
}

// False where the line is not whole.
bool take(std::string_view line, ExitJournal& journal) {
  if (line.size() <= kSumDigits + 1 || line[kSumDigits] != ' ') return false;
  const std::string_view text = line.substr(kSumDigits + 1);
  if (line.substr(0, kSumDigits) != sum_of(text)) return false;
  const auto entry = Json::parse(text);
  if (!entry) return false;
  if (entry->has("begun")) {
    journal.begun.push_back((*entry)["begun"].as_string());
    return true;
  }
  auto record = exit_record_from(*entry);
  if (record) journal.exits.push_back(std::move(*record));
  return record.has_value();
}

}  // namespace

std::string journal_line(const Json& entry) {
  const std::string text = entry.dump();
  return sum_of(text) + " " + text + "\n";
}

Json begun_entry(const std::string& attempt) { return Json::object({{"begun", attempt}}); }

ExitJournal read_exit_journal(std::string_view bytes) {
  ExitJournal journal;
  for (auto end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
    if (!take(bytes.substr(0, end), journal)) return journal;
    bytes.remove_prefix(end + 1);
  }
  return journal;
}

}  // namespace loam::api
