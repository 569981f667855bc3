// The two roads of env.h, step by step; each step's work lies in the file named after it.
#include "env/env.h"

#include <algorithm>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "env/debian.h"
#include "env/section.h"
#include "env/tool.h"

namespace loam::env {
namespace {

std::map<std::string, std::string> tools_here(const Section& section) {
  std::map<std::string, std::string> tools;
  if (section.suite().empty() && section.closure.wheels.empty()) return tools;
  tools["tar"] = program_version("tar");
  if (!section.suite().empty())
    for (const char* name : {"mmdebstrap", "dpkg-deb"}) tools[name] = program_version(name);
  if (!section.closure.wheels.empty())
    if (const auto library = find_installer()) tools["installer"] = library->version;
  return tools;
}

bool has_python(const std::vector<Deb>& debs) {
  return std::any_of(debs.begin(), debs.end(),
                     [](const Deb& deb) { return deb.name == "python3"; });
}

Result<void> resolve_apt(const Context& context, Section& section) {
  const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
  Apt apt = LOAM_TRY(Apt::open(context, temp.path(), section.suite()));
  section.debs = LOAM_TRY(apt.plan(section.apt));
  if (!section.pip.empty() && !has_python(section.debs))
    return fail(ErrorCode::invalid, "pip: needs a Python in the environment; add python3 to apt:");
  return apt.download(section.apt, section.debs);
}

Result<void> resolve_pip(const Context& context, Section& section) {
  const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
  LOAM_CHECK(prepare_folder(context, temp.path()));
  if (!section.suite().empty())
    LOAM_CHECK(provide_base_tar(context, temp.path(), section.suite(), section.debs));
  LOAM_TRY(find_installer());
  section.closure = LOAM_TRY(resolve_wheels(context, {temp.path(), section.suite()}, section.pip));
  return {};
}

template <class T>
Result<T> with_context(std::string_view where, Result<T> result) {
  if (!result && result.error().code != ErrorCode::cancelled &&
      !result.error().text.starts_with(where))
    return in_context(where, result.error());
  return result;
}

Result<void> fetch_missing(const Context& context, const Section& section) {
  LOAM_CHECK(with_context("apt", fetch_missing_debs(context, section.suite(), section.debs)));
  const bool complete =
      std::all_of(section.closure.wheels.begin(), section.closure.wheels.end(),
                  [&](const Wheel& wheel) { return context.store->has_blob(wheel.sha256); });
  if (complete) return {};
  const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
  LOAM_CHECK(prepare_folder(context, temp.path()));
  if (!section.suite().empty())
    LOAM_CHECK(provide_base_tar(context, temp.path(), section.suite(), section.debs));
  return with_context("pip", fetch_missing_wheels(context, {temp.path(), section.suite()},
                                                  section.closure.wheels, section.pip));
}

Result<Digest> build_tree(const Context& context, const Section& section) {
  const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
  LOAM_CHECK(prepare_folder(context, temp.path()));
  std::string tar = "base.tar";
  if (!section.suite().empty())
    LOAM_CHECK(provide_base_tar(context, temp.path(), section.suite(), section.debs));
  if (!section.closure.wheels.empty()) {
    LOAM_CHECK(with_context(
        "pip", install_wheels(context, {temp.path(), section.suite()}, section.closure)));
    tar = "work/tree.tar";
  }
  report(context, {"storing", 0, 0, section.base});
  const Fd file = LOAM_TRY(open_left(temp.path(), tar));
  return LOAM_TRY(context.store->put_tree_from_tar(file.get())).digest;
}

// "mmdebstrap 1.3.5 (locked with 1.5.7)" for each tool that differs.
std::string other_tools(const Section& section) {
  std::vector<std::string> others;
  for (const auto& [name, version] : tools_here(section)) {
    const auto locked = section.tools.find(name);
    if (locked != section.tools.end() && locked->second != version)
      others.push_back(name + " " + version + " (locked with " + locked->second + ")");
  }
  if (others.empty()) return "the tools are the ones of the lock";
  return "this machine's tools differ: " + join(others, ", ");
}

Built built_from(const Section& section) {
  return {section.tree, sha256_of(to_json(section).dump()).hex()};
}

Result<void> check_built(const Section& section, const Digest& tree) {
  if (!section.tree || *section.tree == tree) return {};
  return fail(ErrorCode::corrupt, "the lock names tree " + section.tree->text() +
                                      ", but its packages gave " + tree.text() + "; " +
                                      other_tools(section) + "; renew with: loam lock --update");
}

}  // namespace

Result<LockSection> resolve(const Context& context, const spec::Env& env) {
  const std::string suite = LOAM_TRY(suite_of_base(env.base));
  Section section{.base = env.base,
                  .platform = platform(),
                  .apt = env.apt,
                  .pip = env.pip,
                  .debs = {},
                  .closure = {},
                  .tools = {},
                  .tree = {}};
  if (suite.empty() && !env.apt.empty())
    return fail(ErrorCode::invalid,
                "apt: packages need a base of their own, such as base: debian:bookworm");
  for (const std::string& line : env.pip) LOAM_CHECK(check_requirement(line));
  if (!suite.empty()) LOAM_CHECK(with_context("apt", resolve_apt(context, section)));
  if (!env.pip.empty()) LOAM_CHECK(with_context("pip", resolve_pip(context, section)));
  section.tools = tools_here(section);
  return to_json(section);
}

std::optional<std::string> digest_of(const LockSection& document) {
  const auto section = parse_section(document);
  if (!section) return std::nullopt;
  const bool needs_tree = !section->debs.empty() || !section->closure.wheels.empty();
  if (needs_tree && !section->tree) return std::nullopt;
  return built_from(*section).digest;
}

bool same_packages(const LockSection& one, const LockSection& other) {
  for (const char* key : {"base", "platform", "debs", "wheels", "python"})
    if (one[key].dump() != other[key].dump()) return false;
  return true;
}

Result<Built> build(const Context& context, LockSection& document, NamedTree named) {
  Section section = LOAM_TRY(parse_section(document));
  if (section.platform != platform())
    return fail(ErrorCode::invalid, "this section of the lock is for " + section.platform +
                                        ", this machine is " + platform());
  if (section.debs.empty() && section.closure.wheels.empty()) return built_from(section);
  if (named == NamedTree::built_here && section.tree && context.store->has_tree(*section.tree))
    return built_from(section);
  LOAM_CHECK(fetch_missing(context, section));
  const Digest tree = LOAM_TRY(build_tree(context, section));
  LOAM_CHECK(check_built(section, tree));
  section.tree = tree;
  document = to_json(section);
  return built_from(section);
}

}  // namespace loam::env
