// How many bytes of the store are each user's: of what it did not have, whoever brought it first pays.
// Added as things come, in the transaction that names them; counted anew by each collection, which
// alone takes things away. Environments, packages and records are nobody's.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/sha256.h"
#include "node/database.h"
#include "store/store.h"

namespace loam::node {

using BytesByUser = std::map<std::uint32_t, std::int64_t>;

class StoreUse {
 public:
  explicit StoreUse(Database& database) : database_(database) {}

  std::int64_t bytes(std::uint32_t uid);
  BytesByUser all();
  void add(std::uint32_t uid, std::uint64_t bytes);
  // `counted`: of what was there when all() was `before`. What came since is added.
  void replace(const BytesByUser& counted, const BytesByUser& before);

 private:
  Database& database_;
};

// A tree and who named it.
using OwnedTree = std::pair<std::uint32_t, Digest>;
// On a worker. Oldest first; a tree that is no longer there counts nothing.
BytesByUser count_owned(const store::Store& store, const std::vector<OwnedTree>& trees);

}  // namespace loam::node
