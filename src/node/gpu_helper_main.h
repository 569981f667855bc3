// `loam __gpus LIBRARY`: the process that asks NVIDIA's driver (devices/nvml.h), so that a call that
// hangs, a library that crashes and the memory that it takes are not the node's.
//
//   node ── {"id", "ask": "inventory" | "states"} ──▶ loam __gpus ── NVML ──▶ driver
//        ◀── {"id", "inventory" | "states" | "error"} ──┘  └── {"xid", "uuid", "gpu_instance"?} ──▶ node
//
// Packets of two socket pairs: questions and answers on one, what befalls a GPU on the other. Threads:
// two; one waits for questions, one in the driver for events, without a time: at rest nothing wakes.
// It ends with the node, killed by the kernel where the driver does not let it go.
#pragma once

#include <cstddef>

namespace loam::node {

inline constexpr const char* kGpusWord = "__gpus";
inline constexpr int kGpuQuestions = 3, kGpuEvents = 4;  // their numbers in the helper
inline constexpr std::size_t kGpuPacketBytesMax = 192u << 10;

int gpu_helper_main(const char* library);

}  // namespace loam::node
