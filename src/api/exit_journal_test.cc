#include "api/exit_journal.h"

#include <gtest/gtest.h>

namespace loam::api {
namespace {

std::string exit_line(const std::string& attempt, int code) {
  ExitRecord record;
  record.attempt = attempt;
  record.code = code;
  record.error = "with a \n in it";
  return journal_line(to_json(record));
}

TEST(ExitJournal, GivesBackWhatWasWritten) {
  const ExitJournal journal = read_exit_journal(journal_line(begun_entry("7")) + exit_line("7", 3) +
                                                journal_line(begun_entry("8")));
  EXPECT_EQ(journal.begun, (std::vector<std::string>{"7", "8"}));
  ASSERT_EQ(journal.exits.size(), 1U);
  EXPECT_EQ(journal.exits[0].attempt, "7");
  EXPECT_EQ(journal.exits[0].code, 3);
  EXPECT_EQ(journal.exits[0].error, "with a \n in it");
}

// A write that was cut short at any byte takes away that line and no other.
TEST(ExitJournal, EndsBeforeALineThatIsNotWhole) {
  const std::string whole = exit_line("7", 0), last = exit_line("8", 0);
  for (std::size_t bytes = 0; bytes < last.size(); ++bytes) {
    const ExitJournal journal = read_exit_journal(whole + last.substr(0, bytes));
    ASSERT_EQ(journal.exits.size(), 1U) << bytes;
  }
  EXPECT_EQ(read_exit_journal(whole + last).exits.size(), 2U);
}

TEST(ExitJournal, EndsBeforeALineThatWasChanged) {
  const std::string first = exit_line("7", 0), second = exit_line("8", 0);
  for (std::size_t i = 0; i < second.size(); ++i) {
    std::string changed = second;
    changed[i] = changed[i] == '0' ? '1' : '0';
    const ExitJournal journal = read_exit_journal(first + changed + exit_line("9", 0));
    ASSERT_LE(journal.exits.size(), 1U) << i;
    ASSERT_EQ(journal.exits[0].attempt, "7");
  }
}

TEST(ExitJournal, TakesAnyBytes) {
  for (const std::string bytes : {"", "\n", "00000000 \n", "00000000 {}\n", "x\n\n", "\n\n\n"})
    EXPECT_TRUE(read_exit_journal(bytes).exits.empty());
  EXPECT_TRUE(read_exit_journal(journal_line(Json::object({{"begun", 7}}))).exits.empty());
}

}  // namespace
}  // namespace loam::api
