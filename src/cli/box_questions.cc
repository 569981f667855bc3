#include "cli/box_questions.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/verb.h"
#include "engines/local_node.h"

namespace loam::cli {
namespace {

constexpr std::int64_t kAnswerLimitNs =
    60'000'000'000;  // a node that must be started first is in it
constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::size_t kErrorBytesMax = 64u << 10;

struct Question {
  Child child;
  Fd answer, errors;
  std::string text, said;
  bool open() const { return answer || errors; }
};

Result<Question> ask(const boxes::Address& box, std::vector<std::string> words) {
  Question question;
  Pipe answer = LOAM_TRY(make_pipe());
  Pipe errors = LOAM_TRY(make_pipe());
  SpawnOptions options;
  options.argv = {"/proc/self/exe"};
  options.argv.insert(options.argv.end(), words.begin(), words.end());
  options.argv.insert(options.argv.end(), {"--json", "--on", box.name});
  options.standard_output = answer.write_end.get();
  options.standard_error = errors.write_end.get();
  question.child = LOAM_TRY(spawn(options));
  question.answer = std::move(answer.read_end);
  question.errors = std::move(errors.read_end);
  return question;
}

void read_some(Fd& fd, std::string& text, std::size_t size_bytes_max) {
  std::array<char, 64 * 1024> buffer;
  const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
  if (count < 0 && errno == EINTR) return;
  if (count <= 0) return fd.reset();
  if (text.size() < size_bytes_max) text.append(buffer.data(), static_cast<std::size_t>(count));
}

// Until all have said everything, or the limit.
void read_all(std::vector<Result<Question>>& questions) {
  const std::int64_t limit_ns = steady_ns() + kAnswerLimitNs;
  for (std::int64_t now_ns = steady_ns(); now_ns < limit_ns; now_ns = steady_ns()) {
    std::vector<pollfd> polls;
    std::vector<Question*> polled;
    for (auto& question : questions) {
      if (!question || !question->open()) continue;
      polled.push_back(&*question);
      polls.push_back({question->answer.get(), POLLIN, 0});
      polls.push_back({question->errors.get(), POLLIN, 0});
    }
    if (polled.empty()) return;
    if (::poll(polls.data(), polls.size(), static_cast<int>((limit_ns - now_ns) / kNsPerMs) + 1) <
        0)
      continue;
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polls[2 * i].revents != 0)
        read_some(polled[i]->answer, polled[i]->text, engines::kAnswerBytesMax);
      if (polls[2 * i + 1].revents != 0)
        read_some(polled[i]->errors, polled[i]->said, kErrorBytesMax);
    }
  }
}

// The last line on its standard error, without the "loam: " that this program says again.
std::string last_said(const std::string& said) {
  const auto lines = split(trim(said), '\n');
  std::string line = lines.empty() ? "" : lines.back();
  if (line.starts_with("loam: ")) line.erase(0, 6);
  return printable(line);
}

Result<Json> answer_of(Result<Question>& question, const std::string& box) {
  if (!question) return tl::unexpected(question.error());
  if (question->open())
    return fail(ErrorCode::unavailable, "box " + box + ": no answer within a minute");
  const int status = LOAM_TRY(question->child.wait());
  if (WIFEXITED(status) && WEXITSTATUS(status) == kExitOk) return Json::parse(question->text);
  const std::string said = last_said(question->said);
  const bool reached = WIFEXITED(status) && WEXITSTATUS(status) != kExitUnavailable;
  return fail(reached ? ErrorCode::invalid : ErrorCode::unavailable,
              said.empty() ? "box " + box + ": " + describe_status(status) : said);
}

}  // namespace

std::vector<BoxAnswer> ask_boxes(const std::vector<boxes::Address>& boxes,
                                 const std::vector<std::string>& words) {
  std::vector<Result<Question>> questions;
  for (const boxes::Address& box : boxes) questions.push_back(ask(box, words));
  read_all(questions);
  std::vector<BoxAnswer> answers;
  for (std::size_t i = 0; i < boxes.size(); ++i)
    answers.push_back({boxes[i].name, answer_of(questions[i], boxes[i].name)});
  return answers;
}

}  // namespace loam::cli
