// Where trees come from: each reads its source to the end and hands entries to the stage.
#pragma once

#include "base/result.h"
#include "store/tree_stage.h"

namespace loam::store {

// A folder of Loam's own; what lies below may be anybody's. Never follows a symlink; sockets, fifos
// and device nodes are skipped and counted.
Result<void> take_folder(int folder_fd, TreeStage& stage);
// A tar stream; foreign bytes.
Result<void> take_tar(int tar_fd, TreeStage& stage);
// The stream of walk_project(); foreign bytes. docs/formats/snapshot.md.
Result<void> take_snapshot(int stream_fd, TreeStage& stage);

}  // namespace loam::store
