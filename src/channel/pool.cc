#include "channel/pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/text.h"

namespace loam::channel {
namespace {

constexpr std::uint64_t kPage = 4096;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Sealed so that no peer can truncate it under us (SIGBUS) or lift the seals again. Never hugetlb:
// its pages are not charged to the one who touches them.
Result<Fd> sealed_memfd(std::uint64_t size_bytes) {
  Fd memfd(::memfd_create("loam-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return fail_errno("memfd_create");
  if (::ftruncate(memfd.get(), static_cast<off_t>(size_bytes)) != 0)
    return fail_errno("memfd size");
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return fail_errno("memfd seals");
  return memfd;
}

// Field by field: the bytes in between are nobody's promise.
bool same(const loam_channel_tensor& left, const loam_channel_tensor& right) {
  return left.offset == right.offset && left.size_bytes == right.size_bytes &&
         left.dtype == right.dtype && left.dims == right.dims &&
         std::equal(left.shape, left.shape + LOAM_CHANNEL_DIMS_MAX, right.shape);
}

}  // namespace

Result<Pool> Pool::create(const Signature& signature, std::uint32_t batch_max) {
  Pool pool;
  pool.signature_ = signature;
  pool.batch_max_ = batch_max;
  std::uint64_t end = round_up(sizeof(loam_channel_slot), LOAM_CHANNEL_SLOT_ALIGN);
  for (const auto* specs : {&signature.inputs, &signature.outputs})
    for (const TensorSpec& spec : *specs) {
      pool.offsets_.push_back(end);
      // At most 2^26 * 2^32 a tensor and 16 tensors: no overflow.
      end += round_up(spec.row_bytes() * batch_max, LOAM_CHANNEL_SLOT_ALIGN);
    }
  pool.slot_stride_ = round_up(end, kPage);
  const std::uint64_t count =
      std::clamp<std::uint64_t>(kPoolBytesWanted / pool.slot_stride_, kSlotsMin, kSlotsMax);
  pool.slots_offset_ =
      round_up(kPage + std::uint64_t{kQueuePairs} * sizeof(loam_channel_queue_pair), kPage);
  const std::uint64_t size_bytes = pool.slots_offset_ + count * pool.slot_stride_;
  if (pool.slot_stride_ > kPoolBytesMax || size_bytes > kPoolBytesMax)
    return fail(ErrorCode::too_large, "a batch of " + std::to_string(batch_max) +
                                          " rows needs slots of " + format_size(pool.slot_stride_) +
                                          "; choose a smaller batch max");
  pool.memfd_ = LOAM_TRY(sealed_memfd(size_bytes));
  pool.mapping_ = LOAM_TRY(Mapping::of(pool.memfd_.get(), size_bytes, PROT_READ | PROT_WRITE));
  pool.slots_.resize(count);
  const loam_channel_header header = {.magic = LOAM_CHANNEL_MAGIC,
                                      .version = LOAM_CHANNEL_VERSION,
                                      .slot_count = static_cast<std::uint32_t>(count),
                                      .slot_stride = pool.slot_stride_,
                                      .slots_offset = pool.slots_offset_,
                                      .queues_offset = kPage,
                                      .queue_pair_stride = sizeof(loam_channel_queue_pair),
                                      .queue_pair_count = kQueuePairs,
                                      .batch_max = batch_max};
  std::memcpy(pool.mapping_.data(), &header, sizeof header);
  return pool;
}

loam_channel_queue_pair* Pool::queue_pair(std::uint32_t index) {
  LOAM_ASSERT(index < kQueuePairs);
  return reinterpret_cast<loam_channel_queue_pair*>(mapping_.data() + kPage) + index;
}

loam_channel_slot* Pool::head(std::uint32_t slot) const {
  LOAM_ASSERT(slot < slots_.size());
  return reinterpret_cast<loam_channel_slot*>(mapping_.data() + slots_offset_ +
                                              slot * slot_stride_);
}

std::byte* Pool::input(std::uint32_t slot, std::size_t tensor) {
  return reinterpret_cast<std::byte*>(head(slot)) + offsets_.at(tensor);
}

const std::byte* Pool::output(std::uint32_t slot, std::size_t tensor) const {
  return reinterpret_cast<const std::byte*>(head(slot)) +
         offsets_.at(signature_.inputs.size() + tensor);
}

std::optional<std::uint32_t> Pool::take() {
  for (std::uint32_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].state == State::free) {
      slots_[i].state = State::filling;
      return i;
    }
  return std::nullopt;
}

std::vector<loam_channel_tensor> Pool::tensors_for(std::uint32_t rows) const {
  std::vector<loam_channel_tensor> tensors;
  for (const auto* specs : {&signature_.inputs, &signature_.outputs})
    for (const TensorSpec& spec : *specs) {
      loam_channel_tensor tensor{};
      tensor.offset = offsets_[tensors.size()];
      tensor.size_bytes = spec.row_bytes() * rows;
      tensor.dtype = static_cast<std::uint32_t>(spec.dtype);
      tensor.dims = static_cast<std::uint32_t>(spec.row_shape.size() + 1);
      tensor.shape[0] = rows;
      std::copy(spec.row_shape.begin(), spec.row_shape.end(), tensor.shape + 1);
      tensors.push_back(tensor);
    }
  return tensors;
}

void Pool::submit(std::uint32_t slot, std::uint32_t rows, WorkerId worker) {
  Slot& mine = slots_.at(slot);
  LOAM_ASSERT(mine.state == State::filling && rows >= 1 && rows <= batch_max_);
  mine = {.state = State::submitted, .worker = worker, .sequence = ++sequence_, .rows = rows};
  loam_channel_slot* shared = head(slot);
  shared->sequence = mine.sequence;
  shared->answered = 0;
  shared->rows = rows;
  shared->input_count = static_cast<std::uint32_t>(signature_.inputs.size());
  shared->output_count = static_cast<std::uint32_t>(signature_.outputs.size());
  shared->status = LOAM_STATUS_OK;
  shared->compute_ns = 0;
  shared->error_size = 0;
  const auto tensors = tensors_for(rows);
  std::copy(tensors.begin(), tensors.end(), shared->tensors);
}

Result<Answer> Pool::complete(std::uint32_t slot, WorkerId worker) {
  if (slot >= slots_.size())
    return fail(ErrorCode::corrupt,
                "completed slot " + std::to_string(slot) + " of " + std::to_string(slots_.size()));
  Slot& mine = slots_[slot];
  if (mine.state != State::submitted || mine.worker != worker)
    return fail(ErrorCode::corrupt,
                "completed slot " + std::to_string(slot) + ", which it did not hold");
  loam_channel_slot copy;
  std::memcpy(&copy, head(slot), sizeof copy);
  std::atomic_signal_fence(
      std::memory_order_seq_cst);  // checks below read the copy, never the memfd
  if (copy.answered != mine.sequence)
    return fail(ErrorCode::corrupt,
                "completed slot " + std::to_string(slot) + " with a false sequence");
  const auto expected = tensors_for(mine.rows);
  if (copy.rows != mine.rows || copy.output_count != signature_.outputs.size() ||
      !std::equal(expected.begin(), expected.end(), copy.tensors, same))
    return fail(ErrorCode::corrupt,
                "changed rows, offsets or shapes of slot " + std::to_string(slot));
  if (copy.status > LOAM_STATUS_RAISED || copy.error_size > LOAM_CHANNEL_ERROR_BYTES)
    return fail(ErrorCode::corrupt, "gave a false status of slot " + std::to_string(slot));
  mine.state = State::reading;
  const bool raised = copy.status == LOAM_STATUS_RAISED;
  return Answer{.raised = raised,
                .error = raised ? std::string(copy.error, copy.error_size) : std::string(),
                .compute_ns = copy.compute_ns};
}

void Pool::release(std::uint32_t slot) {
  LOAM_ASSERT(slots_.at(slot).state == State::reading || slots_[slot].state == State::filling);
  slots_[slot] = {};
}

void Pool::bury(WorkerId worker) {
  for (Slot& slot : slots_)
    if (slot.state == State::submitted && slot.worker == worker) slot.state = State::buried;
}

void Pool::exhume(WorkerId worker) {
  for (Slot& slot : slots_)
    if (slot.state == State::buried && slot.worker == worker) slot = {};
}

}  // namespace loam::channel
