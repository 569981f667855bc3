#include "disk.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace loam::simulation {
namespace {

struct OpenFile {
  sqlite3_file base;
  std::shared_ptr<DiskFile>* file;
};

DiskFile& of(sqlite3_file* file) { return **reinterpret_cast<OpenFile*>(file)->file; }

int close_file(sqlite3_file* file) {
  delete reinterpret_cast<OpenFile*>(file)->file;
  return SQLITE_OK;
}

int read_at(sqlite3_file* file, void* to, int count, sqlite3_int64 at) {
  const std::string& now = of(file).now;
  const auto begin = static_cast<std::size_t>(at), wanted = static_cast<std::size_t>(count);
  const std::size_t got = begin < now.size() ? std::min(wanted, now.size() - begin) : 0;
  if (got > 0) std::memcpy(to, now.data() + begin, got);
  std::memset(static_cast<char*>(to) + got, 0, wanted - got);
  return got == wanted ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

bool counts_down(int& left) { return left >= 0 && left-- == 0; }

int write_at(sqlite3_file* file, const void* from, int count, sqlite3_int64 at) {
  Disk& disk = Disk::instance();
  if (counts_down(disk.dies_after)) disk.dead = true;
  if (disk.dead) return SQLITE_IOERR_WRITE;
  if (disk.full_after == 0) return SQLITE_FULL;
  if (disk.full_after > 0) --disk.full_after;
  DiskFile& target = of(file);
  const auto begin = static_cast<std::size_t>(at), size = static_cast<std::size_t>(count);
  if (target.now.size() < begin + size) target.now.resize(begin + size);
  std::memcpy(target.now.data() + begin, from, size);
  target.unsynced.push_back({begin, std::string(static_cast<const char*>(from), size), 0});
  return SQLITE_OK;
}

int truncate_to(sqlite3_file* file, sqlite3_int64 size) {
  if (Disk::instance().dead) return SQLITE_IOERR_TRUNCATE;
  of(file).now.resize(static_cast<std::size_t>(size));
  of(file).unsynced.push_back({0, "", static_cast<std::size_t>(size)});
  return SQLITE_OK;
}

int sync_file(sqlite3_file* file, int) {
  Disk& disk = Disk::instance();
  if (disk.dead) return SQLITE_IOERR_FSYNC;
  if (counts_down(disk.sync_fails_after)) return SQLITE_IOERR_FSYNC;
  of(file).synced = of(file).now;
  of(file).unsynced.clear();
  return SQLITE_OK;
}

int size_of(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>(of(file).now.size());
  return SQLITE_OK;
}
int lock_file(sqlite3_file*, int) { return SQLITE_OK; }
int is_reserved(sqlite3_file*, int* reserved) {
  *reserved = 0;
  return SQLITE_OK;
}
int control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sector_size(sqlite3_file*) { return 512; }
int characteristics(sqlite3_file*) { return 0; }

int map_shared(sqlite3_file* file, int page, int size, int extend, void volatile** memory) {
  auto& shared = of(file).shared;
  const auto wanted = static_cast<std::size_t>(page);
  *memory = nullptr;
  if (wanted >= shared.size()) {
    if (extend == 0) return SQLITE_OK;
    shared.resize(wanted + 1);
  }
  if (shared[wanted].empty()) shared[wanted].resize(static_cast<std::size_t>(size));
  *memory = shared[wanted].data();
  return SQLITE_OK;
}
int lock_shared(sqlite3_file*, int, int, int) { return SQLITE_OK; }
void barrier(sqlite3_file*) {}
int unmap_shared(sqlite3_file* file, int) {
  of(file).shared.clear();
  return SQLITE_OK;
}

const sqlite3_io_methods kMethods = {
    2,           close_file, read_at,      write_at, truncate_to, sync_file,       size_of,
    lock_file,   lock_file,  is_reserved,  control,  sector_size, characteristics, map_shared,
    lock_shared, barrier,    unmap_shared, nullptr,  nullptr};

int open_file(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  Disk& disk = Disk::instance();
  auto* open = reinterpret_cast<OpenFile*>(file);
  open->base.pMethods = nullptr;
  std::shared_ptr<DiskFile> found;
  if (name == nullptr) {
    found = std::make_shared<DiskFile>();
  } else if (const auto at = disk.files.find(name); at != disk.files.end()) {
    found = at->second;
  } else {
    if ((flags & SQLITE_OPEN_CREATE) == 0 || disk.dead) return SQLITE_CANTOPEN;
    found = disk.files[name] = std::make_shared<DiskFile>();
  }
  open->file = new std::shared_ptr<DiskFile>(std::move(found));
  open->base.pMethods = &kMethods;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int remove_file(sqlite3_vfs*, const char* name, int) {
  Disk& disk = Disk::instance();
  if (disk.dead) return SQLITE_IOERR_DELETE;
  return disk.files.erase(name) > 0 ? SQLITE_OK : SQLITE_IOERR_DELETE_NOENT;
}
int access_file(sqlite3_vfs*, const char* name, int, int* there) {
  *there = Disk::instance().files.contains(name) ? 1 : 0;
  return SQLITE_OK;
}
int full_path(sqlite3_vfs*, const char* name, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", name);
  return SQLITE_OK;
}
int randomness(sqlite3_vfs*, int count, char* out) {
  std::memset(
      out, 7,
      static_cast<std::size_t>(count));  // the log's salt: a seed's story must not depend on it
  return count;
}
int sleep_for(sqlite3_vfs*, int microseconds) { return microseconds; }
int time_of_day(sqlite3_vfs*, double* day) {
  *day = 2461000.0;
  return SQLITE_OK;
}
int last_error(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

Disk& Disk::instance() {
  static Disk disk;
  static const bool kRegistered = [] {
    static sqlite3_vfs vfs{};
    vfs.iVersion = 1;
    vfs.szOsFile = sizeof(OpenFile);
    vfs.mxPathname = 512;
    vfs.zName = "simulated";
    vfs.xOpen = open_file;
    vfs.xDelete = remove_file;
    vfs.xAccess = access_file;
    vfs.xFullPathname = full_path;
    vfs.xRandomness = randomness;
    vfs.xSleep = sleep_for;
    vfs.xCurrentTime = time_of_day;
    vfs.xGetLastError = last_error;
    return sqlite3_vfs_register(&vfs, 1) == SQLITE_OK;
  }();
  (void)kRegistered;
  return disk;
}

void Disk::reset(const std::map<std::string, std::shared_ptr<DiskFile>>& from) {
  files.clear();
  for (const auto& [name, file] : from) files[name] = std::make_shared<DiskFile>(*file);
  process_starts();
}

void Disk::process_starts() {
  dead = false;
  full_after = sync_fails_after = dies_after = -1;
  for (const auto& [name, file] : files) file->shared.clear();
}

// Of what was not synced any part may have reached the disk, in any order.
void Disk::power_cut(Random& random) {
  for (const auto& [name, file] : files) {
    std::string kept = file->synced;
    for (const DiskFile::Unsynced& change : file->unsynced) {
      if (random.one_in(2)) continue;
      if (change.bytes.empty()) {
        kept.resize(change.truncated_to);
      } else {
        if (kept.size() < change.at + change.bytes.size())
          kept.resize(change.at + change.bytes.size());
        std::memcpy(kept.data() + change.at, change.bytes.data(), change.bytes.size());
      }
    }
    file->now = file->synced = kept;
    file->unsynced.clear();
  }
}

}  // namespace loam::simulation
