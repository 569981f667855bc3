/* Holds the layout: a compiler that lays these structs out otherwise does not build Loam. The
 * numbers are those of docs/formats/channel.md and of python/loam/_channel.py. */
#include "loam_channel.h"

#include <stddef.h>

_Static_assert(sizeof(struct loam_channel_header) == 56, "header");
_Static_assert(offsetof(struct loam_channel_queue, tail) == 64, "tail on its own cache line");
_Static_assert(offsetof(struct loam_channel_queue, armed) == 128, "armed on its own cache line");
_Static_assert(sizeof(struct loam_channel_queue) == 448, "queue");
_Static_assert(sizeof(struct loam_channel_queue_pair) == 896, "queue pair");
_Static_assert(sizeof(struct loam_channel_tensor) == 88, "tensor");
_Static_assert(offsetof(struct loam_channel_slot, tensors) == 48, "tensors");
_Static_assert(offsetof(struct loam_channel_slot, error) == 1456, "error");
_Static_assert(sizeof(struct loam_channel_slot) == 3504, "slot");
