/* The channel's memory as both sides see it: C, freestanding, fixed sizes, little endian.
 * Format and rules: docs/formats/channel.md. python/loam/_channel.py mirrors this file by ctypes.
 *
 *   memfd: header | queue pair 0 | queue pair 1 | ... | slots (256-byte aligned)
 *
 * One memfd per model, mapped by all its replicas; one queue pair per connected worker, found at
 * queues_offset + index * queue_pair_stride; slot i at slots_offset + i * slot_stride. */
#ifndef LOAM_CHANNEL_H
#define LOAM_CHANNEL_H

#include <stdint.h>

#define LOAM_CHANNEL_MAGIC 0x4C4F414D43484131ull /* "LOAMCHA1" */
#define LOAM_CHANNEL_VERSION 1u
#define LOAM_CHANNEL_QUEUE_CAPACITY 64u /* a power of two, at least the number of slots */
#define LOAM_CHANNEL_TENSORS_MAX 16u    /* inputs and outputs of one slot together */
#define LOAM_CHANNEL_SLOT_ALIGN 256u
#define LOAM_CHANNEL_DIMS_MAX 8u
#define LOAM_CHANNEL_ERROR_BYTES 2048u

struct loam_channel_header {
  uint64_t magic;
  uint32_t version;
  uint32_t slot_count;
  uint64_t slot_stride;
  uint64_t slots_offset;
  uint64_t queues_offset;
  uint64_t queue_pair_stride;
  uint32_t queue_pair_count;
  uint32_t batch_max; /* rows of a slot */
};

/* Single producer, single consumer. head is written by the consumer, tail by the producer, each on
 * its own cache line; both only grow (modulo 2^32), entry n lies at n % capacity and is a slot
 * index. `armed` is set to 1 by a consumer that is about to sleep; a producer that finds it set
 * after its store of tail clears it and wakes: on the submit side by FUTEX_WAKE on tail (shared,
 * never FUTEX_PRIVATE), on the complete side by a write to the eventfd. */
struct loam_channel_queue {
  uint32_t head;
  uint32_t pad0[15];
  uint32_t tail; /* also the futex word of the submit side */
  uint32_t pad1[15];
  uint32_t armed;
  uint32_t pad2[15];
  uint32_t entries[LOAM_CHANNEL_QUEUE_CAPACITY];
};

struct loam_channel_queue_pair {
  struct loam_channel_queue submit;   /* gateway → worker */
  struct loam_channel_queue complete; /* worker → gateway */
};

struct loam_channel_tensor {
  uint64_t offset; /* from the slot's start, 256-byte aligned */
  uint64_t size_bytes;
  uint32_t dtype; /* loam_channel_dtype */
  uint32_t dims;
  int64_t shape[LOAM_CHANNEL_DIMS_MAX];
};

enum loam_channel_dtype {
  LOAM_BOOL = 1,
  LOAM_UINT8,
  LOAM_UINT16,
  LOAM_UINT32,
  LOAM_UINT64,
  LOAM_INT8,
  LOAM_INT16,
  LOAM_INT32,
  LOAM_INT64,
  LOAM_FP16,
  LOAM_FP32,
  LOAM_FP64
};

enum loam_channel_status { LOAM_STATUS_OK = 0, LOAM_STATUS_RAISED = 1 };

/* At the start of each slot. The gateway writes everything but answered, status, compute_ns and the
 * error, which the worker writes before it completes the slot; the tensors of the outputs say where
 * they belong and must still say so then. Everything is foreign to the other side: copied, then
 * checked. */
struct loam_channel_slot {
  uint64_t sequence; /* of the submission; echoed by the worker in `answered` */
  uint64_t answered;
  uint32_t rows;
  uint32_t input_count;
  uint32_t output_count;
  uint32_t status;     /* loam_channel_status, by the worker */
  uint64_t compute_ns; /* by the worker; advisory */
  uint32_t error_size;
  uint32_t pad;
  struct loam_channel_tensor tensors[LOAM_CHANNEL_TENSORS_MAX]; /* inputs, then outputs */
  char error[LOAM_CHANNEL_ERROR_BYTES];
};

#endif
