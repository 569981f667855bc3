// A project on its way to a box: what the box lacks of it is sent (docs/formats/bridge.md).
//
//   begin() ─▶ lock of the project on the box, its loam.lock ─▶ send() ─▶ … submission … ─▶ ~Push
//
// While one lives no other push changes the project there, so that what is submitted is what was
// sent.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "boxes/manifest.h"

namespace loam::boxes {

class Push {
 public:
  // `connection`: of Box::open_files(). `folder`: absolute, without links. Waits for another push
  // of the same, after a word through `on_wait`.
  static Result<Push> begin(Fd connection, std::string folder,
                            const std::function<void()>& on_wait);

  const std::string& folder() const { return remote_; }  // on the box

  // A loam.lock that was made on the box, where the one here is still what was pushed last.
  Result<std::optional<std::string>> newer_lock() const;

  struct Sent {
    std::size_t files = 0, files_sent = 0;
    std::uint64_t bytes_sent = 0;
  };
  using Progress = std::function<void(const Sent&, std::uint64_t bytes_to_send)>;
  Result<Sent> send(const ProjectFiles& files, const Progress& progress);
  // The folder on the box.
  Result<void> remove();

 private:
  Push(Fd connection, std::string folder)
      : connection_(std::move(connection)), folder_(std::move(folder)) {}
  Result<Json> ask(const Json& message);
  Result<Json> read_answer();
  Result<void> send_file(const Fd& top, const ManifestEntry& entry,
                         const std::function<void(std::size_t)>& sent);

  Fd connection_;
  std::string folder_, remote_;
  std::optional<std::string> box_lock_;
  std::string pushed_lock_;  // its digest; "": none
  std::string buffer_;
};

}  // namespace loam::boxes
