// The store's folders and what their users share: names of things, the lock under which things get
// and lose their names, and the pins that hold back the collector. Inside store/ only.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/sha256.h"
#include "store/disk.h"
#include "store/store.h"

namespace loam::store {

// Which names were put while a pin lives: collect() keeps them.
class PinBook {
 public:
  std::uint64_t add();
  void drop(std::uint64_t pin);
  void note_put(const Digest& digest);
  bool holds(const Digest& digest) const;

 private:
  mutable Mutex mutex_;
  std::uint64_t next_ LOAM_GUARDED_BY(mutex_) = 0;
  std::set<std::uint64_t> live_ LOAM_GUARDED_BY(mutex_);
  // next_ at the last put: over the number of each pin that lived then; empty without pins.
  std::map<Digest, std::uint64_t> puts_ LOAM_GUARDED_BY(mutex_);
};

class Store::Pin {
 public:
  explicit Pin(std::shared_ptr<PinBook> book) : book_(std::move(book)), number_(book_->add()) {}
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  ~Pin() { book_->drop(number_); }

 private:
  std::shared_ptr<PinBook> book_;  // shared: a pin may outlive its store
  std::uint64_t number_;
};

struct Layout {
  Layout(std::string store_path, Disk::Fault fault)
      : path(std::move(store_path)), disk(path, std::move(fault)) {}

  // "ab/cdef…", for objects/ and blobs/.
  static std::string spread(const Digest& digest);
  std::string listing_path(const Digest& digest) const {
    return path + "/listings/" + digest.hex();
  }
  std::string tree_path(const Digest& digest) const { return path + "/trees/" + digest.hex(); }
  std::string blob_path(const Digest& digest) const { return path + "/blobs/" + spread(digest); }
  // A name in temp/ that nothing else has.
  std::string temp_name() { return std::to_string(temp_count++); }
  Result<std::string> read_listing(const Digest& digest) const;  // checked against its name

  const std::string path;
  const Disk disk;
  Fd lock;     // its OFD lock makes this process the only one that has the store open
  Fd objects;  // folders
  Fd trees;
  Fd listings;
  Fd blobs;
  Fd copies;
  Fd temp;
  std::atomic<std::uint64_t> temp_count{0};
  // Held while a tree or a blob gets or loses its name, so that "is it there?" and "then remember
  // that it was put" are one step for the collector.
  Mutex names;
  Mutex maintenance;  // one verify() or collect() at a time
  const std::shared_ptr<PinBook> pins = std::make_shared<PinBook>();
};

struct Store::Impl : Layout {
  using Layout::Layout;
};

// Removes temp/NAME with all below when it goes: nothing half-written stays, whatever failed.
class TempGuard {
 public:
  TempGuard(const Layout& layout, std::string name) : layout_(layout), name_(std::move(name)) {}
  TempGuard(const TempGuard&) = delete;
  TempGuard& operator=(const TempGuard&) = delete;
  ~TempGuard();

 private:
  const Layout& layout_;
  std::string name_;
};

// The name of a network filesystem by statfs's f_type, "" for a local one (statfs(2),
// linux/magic.h).
std::string network_filesystem(long type);

}  // namespace loam::store
