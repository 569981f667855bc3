// The store: content-addressed objects, trees and blobs on one filesystem. Only the node and its
// children open it.
//
//   STORE/objects/ab/cdef…   regular files, named by type, mode, ids, xattrs and content;
//   hard-linked into trees STORE/trees/DIGEST/      a real folder of hard links, ready to be an
//   overlay's lower layer STORE/listings/DIGEST    the canonical listing that names the tree (its
//   bytes hash to DIGEST) STORE/blobs/ab/cdef…     plain bytes named by their SHA-256: .debs,
//   wheels, records STORE/copies/DIGEST-UID-GID/   a tree copied for an owner, for hosts without
//   idmapped mounts STORE/temp/              everything unfinished; emptied when the store is
//   opened STORE/lock               one opener at a time (OFD lock)
//
// Crash safety: bytes are written and synced in temp/, then renamed; a tree's folder is complete
// before it is renamed into trees/. What has a name is whole. A full disk is ErrorCode::full with
// the space that is left, and nothing stays in temp/. All mtimes are one constant. Format:
// docs/formats/store.md. Threads: all functions may be called from several threads; hashing of a
// tree runs on all cores. Ids are as namespace 0 sees them, so that rootless and root stores agree
// on digests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "base/sha256.h"

namespace loam::store {

struct TreeInfo {
  Digest digest;
  std::uint64_t size_bytes = 0;  // content, each file once
  std::uint64_t files = 0;
  std::uint64_t skipped = 0;  // of a put: sockets, fifos and device nodes that were left out
  std::vector<std::string> skipped_names;  // the first of them, where the source names them; foreign bytes
  std::uint64_t added_bytes = 0;  // of a put: content that the store did not have
};

struct TreeOptions {
  // Record every entry as 0:0, without set-id bits and xattrs (snapshots, models): a set-id file of
  // a user must not become one of root.
  bool owner_root = false;
  std::uint64_t size_bytes_max = 0;       // 0: no limit
  std::uint64_t file_size_bytes_max = 0;  // a single file; 0: no limit
};

struct ListingEntry {
  enum class Type { file, folder, symlink };
  Type type = Type::file;
  std::string path;        // relative, no leading slash; "" is the tree's top folder
  std::uint32_t mode = 0;  // permission bits, set-id and sticky bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size_bytes = 0;
  Digest content;      // of the bytes of a file
  Digest object;       // of the object (metadata and content)
  std::string target;  // of a symlink
};

struct GarbageReport {
  std::uint64_t removed_trees = 0;
  std::uint64_t removed_objects = 0;
  std::uint64_t removed_blobs = 0;
  std::uint64_t freed_bytes = 0;
  std::vector<std::string> foreign;  // "objects/notes.txt": not the store's own, left alone (foreign.h)
};

struct Damage {
  std::string what;     // "object ab12…"
  std::string finding;  // "content hashes to …"
};

struct Usage {
  std::uint64_t trees = 0, objects = 0, blobs = 0;
  std::uint64_t size_bytes = 0;
  std::vector<std::string> foreign;  // as a GarbageReport's
};

// Everything reachable that garbage collection must keep.
struct Roots {
  std::set<Digest> trees;
  std::set<Digest> blobs;
};

// Called after each object from worker threads, one at a time; false stops what is under way.
using VerifyProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

class Store {
 public:
  // Makes the folders (0700) at first use; refuses network filesystems and a store that another
  // process has open (busy). `fault` is for tests (store/disk.h): asked before each call that
  // changes the disk.
  static Result<std::unique_ptr<Store>> open(
      const std::string& path,
      std::function<int(std::string_view call, std::string_view path)> fault = {});
  ~Store();

  // Blobs: bytes by SHA-256. Putting what is there costs one look.
  Result<Digest> put_blob(std::string_view bytes);
  // Copies (or reflinks) from the descriptor's start; checks `expected` where given (corrupt
  // otherwise).
  Result<Digest> put_blob_from(int fd, const Digest* expected = nullptr);
  bool has_blob(const Digest& digest) const;
  std::string blob_path(const Digest& digest) const;
  Result<std::string> read_blob(const Digest& digest, std::size_t size_bytes_max) const;

  // Records: canonical JSON as a blob. put_record(x) twice gives one blob. A double in it is
  // invalid: the canonical form has fractions as strings.
  Result<Digest> put_record(const Json& record);
  Result<Json> get_record(const Digest& digest) const;

  // Trees. Reads the folder behind `folder_fd` (Loam's own, not a user's path), never follows
  // symlinks, leaves out sockets, fifos and device nodes. A file that changes while it is read is
  // invalid; one with other names too that belongs to somebody else than the folder is denied.
  Result<TreeInfo> put_tree(int folder_fd, TreeOptions options = {});
  // A tar stream (pax, xattrs) as written by a build; foreign bytes: absolute paths, "..", paths
  // through a link, hard links to what did not come before and a missing end mark are errors;
  // device nodes are left out.
  Result<TreeInfo> put_tree_from_tar(int tar_fd, TreeOptions options = {});
  // The snapshot stream that walk_project() writes (store/snapshot.h); foreign bytes, so always
  // as with owner_root; limits that are 0 are those of snapshot.h. An error that the walk reports
  // in the stream comes back as it was.
  Result<TreeInfo> put_tree_from_snapshot(int stream_fd, TreeOptions options = {});
  bool has_tree(const Digest& digest) const;
  std::string tree_path(const Digest& digest) const;  // STORE/trees/DIGEST
  Result<std::vector<ListingEntry>> listing(const Digest& digest) const;
  Result<TreeInfo> tree_info(const Digest& digest) const;
  // A tree from entries of another one whose files all exist as objects (a filtered view of a
  // snapshot): only the digest, nothing is linked.
  static Digest listing_digest(const std::vector<ListingEntry>& entries);

  // A copy of the tree whose files belong to uid:gid, cached as STORE/copies/DIGEST-UID-GID, for
  // hosts without idmapped mounts. Returns its path.
  Result<std::string> copy_for(const Digest& tree, std::uint32_t uid, std::uint32_t gid);

  Result<Usage> usage() const;
  // Re-hashes everything; `cancelled` when progress said to stop.
  Result<std::vector<Damage>> verify(const VerifyProgress& progress);
  // Removes what `roots` does not reach and no Pin holds. A caller that puts something and records
  // it as a root later keeps a Pin in between. dry_run: the same report, nothing removed.
  Result<GarbageReport> collect(const Roots& roots, bool dry_run);

  // While one lives, collect() removes nothing that was put since it was made.
  class Pin;
  std::shared_ptr<Pin> pin();

 private:
  Store();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loam::store
