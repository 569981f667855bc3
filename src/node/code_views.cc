#include "node/code_views.h"

#include <algorithm>
#include <set>

#include "node/staleness.h"

namespace loam::node {
namespace {

constexpr std::size_t kDigestsMax = 16'384;   // about 4 MiB
constexpr std::size_t kDifferencesMax = 8;

std::string name_of(const CodeViews::Code& code) { return code.tree + '\0' + code.file; }

}  // namespace

void CodeViews::look_at(const Code& code, const spec::Project& project) {
  std::set<Patterns> sets{{}};  // services: all of it
  for (const spec::Step& step : project.steps) sets.insert(step.code);
  std::vector<Patterns> unknown;
  for (const Patterns& patterns : sets)
    if (!known({name_of(code), patterns})) unknown.push_back(patterns);
  if (!unknown.empty()) look(code, unknown);
}

void CodeViews::look(const Code& code, const std::vector<Patterns>& sets) {
  const auto listing = listing_(code.tree);
  if (listing.empty()) return;  // not even its top folder: no such tree
  for (const Patterns& patterns : sets) {
    const auto entries = code_entries(listing, patterns, code.file);
    std::string digest = store::Store::listing_digest(entries).hex();
    const MutexLock lock(mutex_);
    if (digests_.size() >= kDigestsMax) digests_.clear();
    digests_[{name_of(code), patterns}] = std::move(digest);
  }
}

std::optional<std::string> CodeViews::known(const Key& key) {
  const MutexLock lock(mutex_);
  const auto found = digests_.find(key);
  return found == digests_.end() ? std::nullopt : std::optional(found->second);
}

std::string CodeViews::digest(const Code& code, const Patterns& patterns) {
  const Key key{name_of(code), patterns};
  if (auto digest = known(key)) return *digest;
  look(code, {patterns});
  return known(key).value_or(code.tree);
}

// Patterns choose by path alone: the difference is made of all code, once, and chosen from.
std::vector<std::string> CodeViews::changed(const std::string& before, const Code& now,
                                            const Patterns& patterns) {
  {
    const MutexLock lock(mutex_);
    for (const Difference& one : differences_)
      if (one.before == before && one.now == now.tree && one.file == now.file)
        return code_paths(one.paths, patterns);
  }
  auto paths = changed_paths(code_entries(listing_(before), {}, now.file),
                             code_entries(listing_(now.tree), {}, now.file));
  auto of_step = code_paths(paths, patterns);
  const MutexLock lock(mutex_);
  differences_.push_front({before, now.tree, now.file, std::move(paths)});
  if (differences_.size() > kDifferencesMax) differences_.pop_back();
  return of_step;
}

}  // namespace loam::node
