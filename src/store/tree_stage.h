// A tree on its way into the store: entries come in from a folder, a tar or a snapshot stream;
// their content is hashed by workers and staged; commit() builds the folder of links and gives it
// its name.
//
//   add_…() ──▶ entries by path ┐                    temp/N/objects/HEX: every object of the tree
//   bytes ──▶ workers: hash ────┴─▶ commit: temp/N/tree ─ sync ─▶ objects/, listings/, then
//   trees/DIGEST
//
// A small tree's bytes are held until commit() knows its name: one that is there already (a project submitted again)
// costs neither a thread nor a single change on disk.
//
// Every object that the tree uses, new or old, is linked into the stage at once, so that a
// collector running meanwhile cannot take it away. Nothing gets a name before it has been synced.
// Threads: one caller; workers inside. Trust: paths and sizes are foreign, checked here for all
// sources.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/result.h"
#include "store/layout.h"
#include "store/object.h"
#include "store/store.h"
#include "store/workers.h"

namespace loam::store {

inline constexpr std::size_t kSmallFileMax =
    256 * 1024;  // hashed in memory, written only where it is new
inline constexpr std::size_t kHeldBytesMax = 256 * 1024;  // of all files of a tree that needs no workers
inline constexpr std::size_t kHeldFilesMax = 64;
inline constexpr std::size_t kSkippedNamesMax = 20;  // more are only counted

// Where a file's bytes are. Exactly one of the three.
struct Content {
  std::string bytes;    // a small file's
  Fd source;            // of a file to be read from its start
  std::string spooled;  // a file made by spool(), with its descriptor in `source`
  std::uint64_t size_bytes = 0;
};

class TreeStage {
 public:
  TreeStage(Layout& layout, TreeOptions options);
  ~TreeStage();
  // A folder may come twice (a tar may name it after its children): the last word counts.
  Result<void> add_folder(const std::string& path, const Meta& meta);
  Result<void> add_symlink(const std::string& path, const Meta& meta, const std::string& target);
  Result<void> add_file(const std::string& path, const Meta& meta, Content content);
  Result<void> add_hard_link(const std::string& path, const std::string& target);
  void skip(const std::string& path = {});
  bool keeps_xattrs() const { return !options_.owner_root; }

  struct Spool {
    Fd fd;
    std::string name;
  };
  // A file in the stage for content of a stream that is too large for memory.
  Result<Spool> spool();
  Result<void> write(const Spool& spool, std::span<const std::byte> bytes);
  // Whether a file of this size may come; asked before its bytes are read.
  Result<void> check_size(const std::string& path, std::uint64_t size_bytes);

  Result<TreeInfo> commit();

 private:
  struct Node {
    ListingEntry entry;
    Meta meta;
    Node* link = nullptr;  // the file that a hard link names
  };
  struct Task {
    Node* node = nullptr;
    Content content;
  };

  Result<void> make_stage();
  Result<void> start_workers();
  Result<Node*> new_node(const std::string& path, ListingEntry::Type type, const Meta& meta);
  Result<void> make_parents(const std::string& path);
  Meta allowed(const Meta& meta) const;

  // Workers' side.
  Result<void> take(Task& task);
  Result<void> take_bytes(Node& node, std::string_view bytes);
  static void name_bytes(Node& node, std::string_view bytes);
  Result<void> stage_bytes(const Node& node, std::string_view bytes);
  Result<void> take_large(Node& node, Fd source, const std::string& path);
  Result<void> take_spooled(Node& node, const Content& content);
  Result<void> place(const Node& node, int fd, const std::string& spool_name);
  Result<Digest> hash_file(int fd, std::uint64_t size_bytes, int copy_to);
  bool claim(const Node& node);
  Result<bool> link_known(const Digest& object);

  // commit's side: it holds mutex_, for which nobody waits once the workers have ended.
  std::vector<ListingEntry> entries() const;
  Result<void> build_tree() LOAM_REQUIRES(mutex_);
  Result<void> build_file(int tree, const Node& node) LOAM_REQUIRES(mutex_);
  Result<void> finish_folders(int tree);
  Result<void> copy_object(const Node& node) LOAM_REQUIRES(mutex_);
  Result<void> sync(int tree, int listing) LOAM_REQUIRES(mutex_);
  Result<void> sync_each(int tree, int listing) LOAM_REQUIRES(mutex_);
  Result<void> name_objects() LOAM_REQUIRES(mutex_);
  std::uint64_t fresh_bytes() const LOAM_REQUIRES(mutex_);
  Result<void> name_tree(const Digest& digest);

  Layout& layout_;
  const Disk& disk_;
  const TreeOptions options_;
  const std::string temp_name_;
  TempGuard guard_;
  Fd stage_;    // temp/N, once it is needed
  Fd objects_;  // temp/N/objects
  std::map<std::string, Node> nodes_;
  std::string last_parent_;  // the folder whose parents were checked last: most entries share it
  std::uint64_t size_bytes_ = 0;
  std::uint64_t skipped_ = 0;
  std::vector<std::string> skipped_names_;
  std::uint64_t spools_ = 0;
  std::vector<Task> held_;
  std::uint64_t held_bytes_ = 0;

  Mutex mutex_;
  std::set<Digest> claimed_ LOAM_GUARDED_BY(mutex_);  // objects of this tree
  std::set<Digest> fresh_ LOAM_GUARDED_BY(mutex_);    // those that the store does not have yet
  std::optional<Workers<Task>> workers_;  // where they were needed; last: its threads end before what they use goes
};

}  // namespace loam::store
