// The channel across processes, its seals, and what lies and garbage lead to.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/files.h"
#include "channel/handshake.h"
#include "channel/pool.h"
#include "channel/queue.h"

namespace loam::channel {
namespace {

Signature square() {
  Signature signature;
  signature.inputs.push_back({"x", DType::fp32, {4}});
  signature.outputs.push_back({"y", DType::fp32, {4}});
  return signature;
}

// The slot's head as a worker sees it, through its own mapping of the memfd.
class WorkerView {
 public:
  explicit WorkerView(int memfd) {
    const off_t size = ::lseek(memfd, 0, SEEK_END);
    mapping_ = *Mapping::of(memfd, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE);
  }
  loam_channel_header* header() { return reinterpret_cast<loam_channel_header*>(mapping_.data()); }
  loam_channel_slot* slot(std::uint32_t index) {
    return reinterpret_cast<loam_channel_slot*>(mapping_.data() + header()->slots_offset +
                                                index * header()->slot_stride);
  }
  loam_channel_queue_pair* queue_pair(std::uint32_t index) {
    return reinterpret_cast<loam_channel_queue_pair*>(mapping_.data() + header()->queues_offset) +
           index;
  }

 private:
  Mapping mapping_;
};

// A worker in C++: adds one to every number, `batches` times.
int run_worker(int memfd, int eventfd, int batches) {
  WorkerView view(memfd);
  QueueConsumer submit(&view.queue_pair(0)->submit);
  QueueProducer complete(&view.queue_pair(0)->complete);
  while (batches > 0) {
    const auto index = submit.pop();
    if (!index) return 2;
    if (!*index) {
      if (submit.arm()) submit.wait_futex(std::chrono::milliseconds(200));
      continue;
    }
    loam_channel_slot* slot = view.slot(**index);
    const auto* in =
        reinterpret_cast<const float*>(reinterpret_cast<char*>(slot) + slot->tensors[0].offset);
    auto* out = reinterpret_cast<float*>(reinterpret_cast<char*>(slot) + slot->tensors[1].offset);
    for (std::uint32_t i = 0; i < slot->rows * 4; ++i) out[i] = in[i] + 1;
    slot->answered = slot->sequence;
    if (*complete.push(**index)) ::eventfd_write(eventfd, 1);
    --batches;
  }
  return 0;
}

TEST(Channel, CarriesBatchesBetweenProcesses) {
  constexpr int kBatches = 2000;
  Pool pool = *Pool::create(square(), 8);
  const Fd event(::eventfd(0, EFD_CLOEXEC));  // blocking: the test sleeps on it
  const pid_t child = ::fork();
  if (child == 0) ::_exit(run_worker(pool.memfd(), event.get(), kBatches));
  QueueProducer submit(&pool.queue_pair(0)->submit);
  QueueConsumer complete(&pool.queue_pair(0)->complete);
  for (int i = 0; i < kBatches; ++i) {
    const auto slot = pool.take();
    ASSERT_TRUE(slot);
    auto* in = reinterpret_cast<float*>(pool.input(*slot, 0));
    for (int k = 0; k < 8; ++k) in[k] = static_cast<float>(i + k);
    pool.submit(*slot, 2, 1);
    if (*submit.push(*slot)) submit.wake_futex();
    auto done = *complete.pop();
    while (!done) {
      eventfd_t count = 0;
      if (complete.arm()) ::eventfd_read(event.get(), &count);
      done = *complete.pop();
    }
    ASSERT_EQ(*done, *slot);
    const auto answer = pool.complete(*done, 1);
    ASSERT_TRUE(answer) << answer.error().text;
    const auto* out = reinterpret_cast<const float*>(pool.output(*slot, 0));
    for (int k = 0; k < 8; ++k) ASSERT_EQ(out[k], static_cast<float>(i + k + 1));
    pool.release(*slot);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Channel, MemfdCannotBeTruncatedOrGrownOrUnsealed) {
  const Pool pool = *Pool::create(square(), 8);
  const off_t size = ::lseek(pool.memfd(), 0, SEEK_END);
  EXPECT_NE(::ftruncate(pool.memfd(), size - 4096), 0);
  EXPECT_NE(::ftruncate(pool.memfd(), 0), 0);
  EXPECT_NE(::ftruncate(pool.memfd(), size + 4096), 0);
  EXPECT_NE(::fcntl(pool.memfd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST(Channel, PunchedHolesReadAsZeroes) {
  Pool pool = *Pool::create(square(), 8);
  const auto slot = pool.take();
  pool.submit(*slot, 1, 7);
  const off_t size = ::lseek(pool.memfd(), 0, SEEK_END);
  ASSERT_EQ(::fallocate(pool.memfd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size), 0);
  EXPECT_EQ(pool.complete(*slot, 7).error().code, ErrorCode::corrupt);
  EXPECT_EQ(*reinterpret_cast<const float*>(pool.output(*slot, 0)), 0.0f);
}

TEST(Channel, ForgedCompletionsAreCorrupt) {
  Pool pool = *Pool::create(square(), 8);
  WorkerView view(pool.memfd());
  EXPECT_EQ(pool.complete(0, 1).error().code, ErrorCode::corrupt);          // never submitted
  EXPECT_EQ(pool.complete(1'000'000, 1).error().code, ErrorCode::corrupt);  // no such slot
  const auto slot = pool.take();
  EXPECT_EQ(pool.complete(*slot, 1).error().code, ErrorCode::corrupt);  // being filled
  pool.submit(*slot, 3, 1);
  EXPECT_EQ(pool.complete(*slot, 1).error().code, ErrorCode::corrupt);  // sequence not echoed
  view.slot(*slot)->answered = view.slot(*slot)->sequence;
  EXPECT_EQ(pool.complete(*slot, 2).error().code, ErrorCode::corrupt);  // another worker's
  ASSERT_TRUE(pool.complete(*slot, 1));
  EXPECT_EQ(pool.complete(*slot, 1).error().code, ErrorCode::corrupt);  // twice
}

TEST(Channel, EveryLieInTheSlotHeadIsFound) {
  using Lie = void (*)(loam_channel_slot*);
  const Lie lies[] = {
      [](loam_channel_slot* slot) { slot->rows = 8; },
      [](loam_channel_slot* slot) { slot->output_count = 15; },
      [](loam_channel_slot* slot) { slot->tensors[1].offset = ~0ull; },
      [](loam_channel_slot* slot) { slot->tensors[1].size_bytes = 1u << 30; },
      [](loam_channel_slot* slot) { slot->tensors[1].dims = 200; },
      [](loam_channel_slot* slot) { slot->tensors[1].shape[0] = -5; },
      [](loam_channel_slot* slot) { slot->tensors[1].dtype = 99; },
      [](loam_channel_slot* slot) { slot->status = 77; },
      [](loam_channel_slot* slot) { slot->error_size = LOAM_CHANNEL_ERROR_BYTES + 1; },
      [](loam_channel_slot* slot) { slot->answered += 1; },
  };
  for (const Lie lie : lies) {
    Pool pool = *Pool::create(square(), 8);
    WorkerView view(pool.memfd());
    const auto slot = pool.take();
    pool.submit(*slot, 3, 1);
    view.slot(*slot)->answered = view.slot(*slot)->sequence;
    lie(view.slot(*slot));
    const auto answer = pool.complete(*slot, 1);
    ASSERT_FALSE(answer) << "lie " << &lie - lies;
    EXPECT_EQ(answer.error().code, ErrorCode::corrupt);
  }
}

TEST(Channel, BuriedSlotsRestUntilExhumed) {
  Pool pool = *Pool::create(square(), 8);
  const auto first = pool.take();
  pool.submit(*first, 1, 1);
  pool.bury(1);
  for (std::uint32_t i = 1; i < pool.slot_count(); ++i) EXPECT_NE(pool.take(), first);
  EXPECT_FALSE(pool.take());
  pool.exhume(2);
  EXPECT_FALSE(pool.take());
  pool.exhume(1);
  EXPECT_EQ(pool.take(), first);
}

TEST(Channel, PositionsThatCannotBeAreCorrupt) {
  Pool pool = *Pool::create(square(), 8);
  auto* queues = pool.queue_pair(0);
  QueueConsumer complete(&queues->complete);
  queues->complete.tail = 4000;
  EXPECT_EQ(complete.pop().error().code, ErrorCode::corrupt);
  QueueProducer submit(&queues->submit);
  queues->submit.head = 4000;
  EXPECT_EQ(submit.push(0).error().code, ErrorCode::corrupt);
}

TEST(Channel, AQueueHoldsItsCapacityAndNoMore) {
  loam_channel_queue queue{};
  QueueProducer producer(&queue);
  for (std::uint32_t i = 0; i < LOAM_CHANNEL_QUEUE_CAPACITY; ++i) ASSERT_TRUE(producer.push(i));
  EXPECT_EQ(producer.push(0).error().code, ErrorCode::full);
  QueueConsumer consumer(&queue);
  EXPECT_FALSE(consumer.arm());  // something is there
  for (std::uint32_t i = 0; i < LOAM_CHANNEL_QUEUE_CAPACITY; ++i) EXPECT_EQ(**consumer.pop(), i);
  EXPECT_TRUE(consumer.arm());
  EXPECT_TRUE(*producer.push(1));   // armed: wake
  EXPECT_FALSE(*producer.push(2));  // no longer
}

TEST(Signature, RefusesWhatCannotBeLaidOut) {
  const char* bad[] = {
      R"({})",
      R"({"inputs":[],"outputs":[]})",
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[4]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"x","datatype":"FP99","shape":[-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"","datatype":"FP32","shape":[-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,67108864,67108864,67108864]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,1,1,1,1,1,1,1,1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1]},{"name":"x","datatype":"FP32","shape":[-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})",
  };
  for (const char* text : bad) EXPECT_FALSE(signature_from(*Json::parse(text))) << text;
  EXPECT_EQ(*signature_from(to_json(square())), square());
}

TEST(Pool, RefusesABatchThatNoMachineHolds) {
  Signature signature = square();
  signature.inputs[0].row_shape = {1 << 24};
  EXPECT_EQ(Pool::create(signature, 1024).error().code, ErrorCode::too_large);
}

class HandshakeTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-channel-XXXXXX";
    folder_ = ::mkdtemp(name);
    deep_ = folder_ + "/" + std::string(120, 'd');  // deeper than sun_path is long
    ASSERT_TRUE(make_folders(deep_));
  }
  void TearDown() override { (void)remove_tree(folder_); }
  std::string folder_, deep_;
};

TEST_F(HandshakeTest, HandsOverMemfdAndEventfd) {
  const Fd listener = *listen_in(deep_);
  Pool pool = *Pool::create(square(), 8);
  const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Result<Connected> worker = fail(ErrorCode::io, "");
  std::thread other(
      [&] { worker = connect_to(deep_, encode_hello({.position = 0, .signature = square()})); });
  Fd socket;
  while (!socket) socket = *accept_from(listener.get());
  std::optional<std::string> packet;
  while (!packet) packet = *receive_packet(socket.get());
  const auto hello = parse_hello(*packet);
  ASSERT_TRUE(hello) << hello.error().text;
  EXPECT_EQ(hello->signature, square());
  ASSERT_TRUE(send_welcome(socket.get(), 5, pool.memfd(), event.get()));
  other.join();
  ASSERT_TRUE(worker) << worker.error().text;
  EXPECT_EQ(worker->welcome.queue, 5u);
  WorkerView view(worker->welcome.memfd.get());
  EXPECT_EQ(view.header()->magic, LOAM_CHANNEL_MAGIC);
  EXPECT_EQ(view.header()->slot_count, pool.slot_count());
  worker->socket.reset();
  packet.reset();
  while (!packet) packet = *receive_packet(socket.get());
  EXPECT_EQ(*packet, "");  // the socket's end is the peer's death
}

TEST_F(HandshakeTest, GarbageIsRefusedWithAReason) {
  const std::string bad[] = {"",
                             "\0\1\2",
                             "[]",
                             "{}",
                             R"({"format":2})",
                             R"({"format":1})",
                             R"({"format":1,"position":"x","signature":{}})",
                             R"({"format":1,"position":0,"signature":[]})",
                             std::string(60000, '[')};
  for (const std::string& text : bad) EXPECT_FALSE(parse_hello(text)) << text.substr(0, 60);
  EXPECT_EQ(parse_word("\xff"), WorkerWord::unknown);
  EXPECT_EQ(parse_word(R"({"leaving":true})"), WorkerWord::leaving);
  EXPECT_EQ(parse_word(R"({"ready":true})"), WorkerWord::ready);
}

}  // namespace
}  // namespace loam::channel
