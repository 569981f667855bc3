// tests/corpus/spec: good files are read without a problem; bad ones give problems that begin as
// their "# expect: LINE:COLUMN: KEY: MESSAGE" lines say, in that order and no others. "# folder:"
// lists the files that exist (without it nothing about files is checked), "# FILE.py| LINE" what a
// handler's file holds, "# models:" the imported models.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>

#include "base/files.h"
#include "base/text.h"
#include "spec/project.h"

namespace loam::spec {
namespace {

class ListedFolder : public Folder {
 public:
  ListedFolder(std::vector<std::string> files, std::map<std::string, std::string> scripts)
      : files_(std::move(files)), scripts_(std::move(scripts)) {}
  bool has_file(const std::string& relative) const override {
    return std::find(files_.begin(), files_.end(), relative) != files_.end();
  }
  std::size_t matches(const std::string& pattern, std::size_t) const override {
    return static_cast<std::size_t>(std::count_if(files_.begin(), files_.end(), [&](const std::string& file) {
      return matches_pattern(pattern, file);
    }));
  }
  Result<std::string> read(const std::string& relative) const override {
    if (relative == "bad-requirements.txt")
      return "# good ones first\nnumpy==1.26.4 \\\n  --hash=sha256:" + std::string(64, 'a') +
             "\nscipy # comment\n\n-e .\nrequests=2\n";
    if (const auto script = scripts_.find(relative); script != scripts_.end())
      return script->second;
    if (relative.ends_with(".py")) return fail(ErrorCode::not_found, relative);
    return std::string("numpy==1.26.4\n");
  }
  std::vector<std::string> files_beside(const std::string& relative) const override {
    return relative.find('/') == std::string::npos ? files_ : std::vector<std::string>{};
  }

 private:
  std::vector<std::string> files_;
  std::map<std::string, std::string> scripts_;
};

struct Case {
  std::string path;
  std::string text;
  std::vector<std::string> expected;
  std::vector<std::string> models;
  std::optional<ListedFolder> folder;
};

Case load(const std::filesystem::path& path) {
  Case found;
  found.path = path.string();
  found.text = read_file(found.path).value_or("");
  std::optional<std::vector<std::string>> files;
  std::map<std::string, std::string> scripts;
  for (const std::string& line : split(found.text, '\n')) {
    const auto value = [&](std::string_view key) -> std::optional<std::string> {
      const std::string start = "# " + std::string(key) + ": ";
      if (!line.starts_with(start)) return {};
      return line.substr(start.size());
    };
    if (const auto expect = value("expect")) found.expected.push_back(*expect);
    if (const auto models = value("models")) found.models = split(*models, ' ');
    if (const auto folder = value("folder")) files = split(*folder, ' ');
    if (const auto bar = line.find(".py| "); line.starts_with("# ") && bar != std::string::npos)
      scripts[line.substr(2, bar + 1)] += line.substr(bar + 5) + "\n";
  }
  if (files) found.folder.emplace(*files, scripts);
  return found;
}

std::vector<Case> load_all(const std::string& kind) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(LOAM_SOURCE_DIR "/tests/corpus/spec/" + kind))
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Case> cases;
  for (const auto& path : paths) cases.push_back(load(path));
  return cases;
}

ReadResult read(const Case& input, std::string_view text) {
  return read_project(text, input.folder ? &*input.folder : nullptr, &input.models);
}

// "12:5: train.resources.memroy: unknown key; did you mean 'memory'?"
std::vector<std::string> shown(const ReadResult& result) {
  std::vector<std::string> lines = split(format_problems("f", result.problems), '\n');
  lines.pop_back();
  for (std::string& line : lines) line.erase(0, 2);
  return lines;
}

TEST(Corpus, HasEnoughFiles) {
  EXPECT_GE(load_all("good").size(), 25u);
  EXPECT_GE(load_all("bad").size(), 45u);
}

TEST(Corpus, GoodFilesHaveNoProblem) {
  for (const Case& good : load_all("good")) {
    const ReadResult result = read(good, good.text);
    EXPECT_EQ(shown(result), std::vector<std::string>{}) << good.path;
    EXPECT_TRUE(result.project.has_value()) << good.path;
  }
}

TEST(Corpus, BadFilesHaveTheirProblemsInFileOrder) {
  for (const Case& bad : load_all("bad")) {
    const ReadResult result = read(bad, bad.text);
    EXPECT_FALSE(bad.expected.empty()) << bad.path;
    const std::vector<std::string> lines = shown(result);
    EXPECT_EQ(lines.size(), bad.expected.size()) << bad.path << "\n" << join(lines, "\n");
    for (std::size_t i = 0; i < std::min(lines.size(), bad.expected.size()); ++i)
      EXPECT_TRUE(lines[i].starts_with(bad.expected[i]))
          << bad.path << "\nfound    " << lines[i] << "\nexpected " << bad.expected[i];
    EXPECT_FALSE(result.project.has_value()) << bad.path;
  }
}

// One to four changes: a byte set, a piece dropped, doubled or moved, or a token put in.
std::string mutate(std::string text, std::mt19937& random) {
  static const std::vector<std::string> kTokens{
      "\t",  "\n",  ": ", "- ",    "[",    "]", "{",  "}",   "&a ",  "*a",   "\"", "'",
      "|\n", "!x ", "? ", "---\n", "\xFF", "@", "$A", "1e9", "null", "<<: ", "#",  ", "};
  const auto below = [&](std::size_t end) { return end == 0 ? 0 : random() % end; };
  for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
    const std::size_t at = below(text.size());
    const std::string piece = text.substr(at, below(12));
    switch (below(5)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, piece.size());
        break;
      case 2:
        text.insert(at, piece);
        break;
      case 3:
        text.insert(below(text.size()), piece);
        break;
      default:
        text.insert(at, kTokens[below(kTokens.size())]);
    }
  }
  return text;
}

TEST(Corpus, MutatedFilesEitherReadOrHavePlacedProblems) {
  std::vector<Case> cases = load_all("good");
  for (Case& bad : load_all("bad")) cases.push_back(std::move(bad));
  std::mt19937 random(20'240'607);
  for (int round = 0; round < 2000; ++round) {
    const Case& original = cases[random() % cases.size()];
    const std::string text = mutate(original.text, random);
    const ReadResult result = read(original, text);
    ASSERT_EQ(result.project.has_value(), result.problems.empty()) << original.path << "\n" << text;
    int line = 1;
    for (const Problem& problem : result.problems) {
      ASSERT_GE(problem.place.line, line) << original.path << "\n" << text;
      ASSERT_GE(problem.place.column, 1) << original.path << "\n" << text;
      ASSERT_FALSE(problem.message.empty()) << original.path << "\n" << text;
      line = problem.place.line;
    }
  }
}

}  // namespace
}  // namespace loam::spec
