#include "spec/boxes_config.h"
#include "spec/checks.h"
#include "spec/reader.h"
#include "spec/yaml.h"

namespace loam::spec {
namespace {

constexpr std::string_view kBoxExpected =
    "[USER@]HOST, or a map such as {ssh: anna@gpu1, program: /opt/loam/bin/loam}";

std::string checked(const Value& value, std::string (*problem_of)(std::string_view),
                    std::string_view expected) {
  const auto text = value.text(expected);
  if (!text) return "";
  if (const std::string problem = problem_of(*text); !problem.empty()) {
    value.problem(problem);
    return "";
  }
  return *text;
}

ConfiguredBox read_box(const NamedValue& member, const BoxChecks& checks) {
  ConfiguredBox box{
      .name = member.name, .ssh = "", .program = "", .place = member.value.key_place()};
  if (member.name == "all" || member.name == "any")
    member.value.problem("'" + member.name + "' stands for boxes in general (--on " + member.name +
                         "); expected another name");
  if (!member.value.is_map()) {
    box.ssh = checked(member.value, checks.destination, kBoxExpected);
    return box;
  }
  const Section section(member.value, {"ssh", "program"}, kBoxExpected);
  if (const auto item = section.find("ssh"))
    box.ssh = checked(*item, checks.destination, "[USER@]HOST");
  if (const auto item = section.find("program"))
    box.program = checked(*item, checks.program, "the name or path of loam there");
  return box;
}

}  // namespace

BoxesConfigResult read_boxes_config(std::string_view text, const BoxChecks& checks) {
  Document document = read_yaml(text);
  Reader reader{nullptr, nullptr, std::move(document.problems), {}};
  BoxesConfigResult result;
  if (document.root && document.root->kind != Node::Kind::null) {
    const Section top(Value(reader, *document.root, "", {1, 1}), {"boxes"},
                      "a map such as `boxes: {gpu1: anna@gpu1.lab}`");
    if (const auto boxes = top.find("boxes"))
      for (const NamedValue& member :
           boxes->members("a map of names to boxes, such as {gpu1: anna@gpu1.lab}")) {
        if (!check_name(member)) continue;
        if (result.boxes.size() == kBoxesMax) {
          member.value.problem("more than 256 boxes");
          break;
        }
        result.boxes.push_back(read_box(member, checks));
      }
  }
  if (!reader.problems.empty()) result.boxes.clear();
  result.problems = reader.in_file_order();
  return result;
}

}  // namespace loam::spec
