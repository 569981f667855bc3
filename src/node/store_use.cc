#include "node/store_use.h"

#include <set>

namespace loam::node {

std::int64_t StoreUse::bytes(std::uint32_t uid) {
  const auto rows =
      database_.query("SELECT bytes FROM store_use WHERE uid=?", {std::int64_t{uid}});
  return rows.empty() ? 0 : rows[0].integer(0);
}

BytesByUser StoreUse::all() {
  BytesByUser all;
  for (const Row& row : database_.query("SELECT uid, bytes FROM store_use"))
    all[static_cast<std::uint32_t>(row.integer(0))] = row.integer(1);
  return all;
}

void StoreUse::add(std::uint32_t uid, std::uint64_t bytes) {
  if (bytes == 0) return;
  database_.write(
      "INSERT INTO store_use (uid, bytes) VALUES (?, ?) "
      "ON CONFLICT (uid) DO UPDATE SET bytes = bytes + excluded.bytes",
      {std::int64_t{uid}, static_cast<std::int64_t>(bytes)});
}

void StoreUse::replace(const BytesByUser& counted, const BytesByUser& before) {
  BytesByUser now = all();
  for (const auto& [uid, bytes] : before) now[uid] -= bytes;
  for (const auto& [uid, bytes] : counted) now[uid] += bytes;
  database_.write("DELETE FROM store_use");
  for (const auto& [uid, bytes] : now)
    if (bytes > 0) add(uid, static_cast<std::uint64_t>(bytes));
}

BytesByUser count_owned(const store::Store& store, const std::vector<OwnedTree>& trees) {
  BytesByUser counted;
  std::set<Digest> seen_trees, seen_objects;
  for (const auto& [uid, tree] : trees) {
    if (!seen_trees.insert(tree).second || !store.has_tree(tree)) continue;
    const auto listing = store.listing(tree);
    if (!listing) continue;
    for (const store::ListingEntry& entry : *listing)
      if (entry.type == store::ListingEntry::Type::file && seen_objects.insert(entry.object).second)
        counted[uid] += static_cast<std::int64_t>(entry.size_bytes);
  }
  return counted;
}

}  // namespace loam::node
