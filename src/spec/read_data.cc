#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

constexpr std::size_t kSourcesMax = 256;

void check_matches(const Value& value, const std::string& pattern) {
  const Folder* folder = value.reader().folder;
  if (folder == nullptr) return;
  // Those of the top folder are counted, for each is a mount of its own; a folder is one.
  const std::size_t count_max = pattern_folder(pattern).empty() ? kTopDataFilesMax + 1 : 1;
  const std::size_t count = folder->matches(pattern, count_max);
  if (count > kTopDataFilesMax)
    return value.problem(quoted(pattern) + " matches more than " + std::to_string(kTopDataFilesMax) +
                         " files from the project's top folder on; move them into a folder and write 'FOLDER/**'");
  if (count > 0) return;
  const bool is_folder = folder->has_match(pattern + "/**");
  value.problem(quoted(pattern) +
                (is_folder ? " is a folder; write '" + pattern + "/**' for all files in it"
                           : " matches no file of the project"));
}

DataSource read_source(const NamedValue& member) {
  static constexpr std::string_view kPattern = "a pattern such as data/*.jsonl";
  DataSource source;
  source.name = member.name;
  source.place = member.value.key_place();
  std::optional<Value> files;
  if (member.value.is_text()) {
    files = member.value;
  } else {
    const Section section(member.value, {"files", "fingerprint"},
                          "a pattern or a map with files and fingerprint");
    files = section.need("files", kPattern);
    if (const auto fingerprint = section.find("fingerprint"))
      source.fingerprint =
          static_cast<Fingerprint>(fingerprint->choice({"stat", "sample", "full"}).value_or(0));
  }
  if (!files) return source;
  if (const auto pattern = read_project_pattern(*files, kPattern)) {
    source.files = *pattern;
    check_matches(*files, *pattern);
  }
  return source;
}

}  // namespace

std::vector<DataSource> read_data(const Value& value) {
  std::vector<DataSource> sources;
  for (const NamedValue& member : value.members("a map of names to {files, fingerprint}")) {
    if (sources.size() >= kSourcesMax) {
      member.value.problem("more than " + std::to_string(kSourcesMax) + " data sources");
      break;
    }
    if (check_name(member)) sources.push_back(read_source(member));
  }
  return sources;
}

}  // namespace loam::spec
