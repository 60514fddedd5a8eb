// What stands between the dense layers of a block, in one pass each, on a CPU.
//
// Scaled cosine attention in every window of a channels-last map: what attention.py defines, on
// (B, T, H, W, 3C) of q, k and v as their dense layer leaves them, before its bias. Windows, shift,
// padding and seams are arithmetic on coordinates, and the position bias is read from its table of
// offsets, so that nothing of (N, N) is kept but a strip of rows. A thread takes one head of one
// window after another. Then GELU, with the bias that is added before it, and the norm at the end of
// a branch, which joins the trunk. All with gradients. native.py compiles and calls this; there is no
// torch here.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <omp.h>
#include <vector>

#if defined(__AVX512F__)
constexpr int LANES = 16, WIDE_ROWS = 6, WIDE = 4;
#elif defined(__AVX__)
constexpr int LANES = 8, WIDE_ROWS = 6, WIDE = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, WIDE_ROWS = 6, WIDE = 4;
#else
constexpr int LANES = 4, WIDE_ROWS = 6, WIDE = 2;
#endif
typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Int __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

constexpr float SEAM = -100.f;  // as in windows.py
constexpr float NONE = -std::numeric_limits<float>::infinity();
constexpr float SHORTEST = 1e-6f;  // COSINE_EPS of sequential.py
constexpr float LEAST = -69.f;  // e^-69 = 1e-30 is far under the rounding of what stands beside it
constexpr int STRIP = 48;  // rows of logits at a time

static inline Vec load(const float* x) { return *reinterpret_cast<const Vec*>(x); }
static inline void store(float* x, Vec value) { *reinterpret_cast<Vec*>(x) = value; }
// The same of the first n numbers, zeros behind them.
static inline Vec load(const float* x, long n) {
    if (n == LANES) return load(x);
    Vec part{};
    std::memcpy(&part, x, 4 * n);
    return part;
}
static inline void store(float* x, Vec value, long n) {
    if (n == LANES) store(x, value);
    else std::memcpy(x, &value, 4 * n);
}
static inline Vec all(float x) { return x - Vec{}; }

static inline Vec larger(Vec x, Vec y) { return x > y ? x : y; }

// Lanes for shuffles: of two vectors zipped, and of one with its halves, quarters, ... exchanged.
struct Lanes {
    int32_t low[LANES]{}, high[LANES]{}, exchanged[LANES / 2 + 1][LANES]{};
    constexpr Lanes() {
        for (int i = 0; i < LANES; i++) {
            low[i] = i / 2 + i % 2 * LANES;
            high[i] = low[i] + LANES / 2;
            for (int half = 1; half < LANES; half *= 2) exchanged[half][i] = i ^ half;
        }
    }
};
static constexpr Lanes lanes;
static inline Int lane(const int32_t* x) { return *reinterpret_cast<const Int*>(x); }

// One number of all lanes.
template <class F> static inline float fold(Vec x, F join) {
    for (int half = LANES / 2; half; half /= 2)
        x = join(x, __builtin_shuffle(x, lane(lanes.exchanged[half])));
    return x[0];
}
static inline float sum(Vec x) { return fold(x, [](Vec a, Vec b) { return a + b; }); }

// e^x for x <= 0, to the last place or two; 0 from LEAST down, NaN of NaN.
static inline Vec exponential(Vec x) {
    constexpr float ROUND = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
    const Vec turns = x * 1.44269504f + ROUND, whole = turns - ROUND;
    const Vec rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;  // ln 2 in two pieces
    Vec series = all(1.f / 5040);
    for (float factor : {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f})
        series = series * rest + factor;
    return (Vec)(((Int)series + ((Int)turns << 23)) & ~(Int)(x < LEAST));
}

// rows[i][j] <-> rows[j][i] of a square, by zips of its halves.
static inline void transpose(Vec (&rows)[LANES]) {
    const Int low = lane(lanes.low), high = lane(lanes.high);
    for (int turn = 1; turn < LANES; turn *= 2) {
        Vec next[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
            next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
        }
        for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

// A matrix in memory: element (i, j) at i * row + j * column.
struct Matrix {
    const float* at;
    long row, column;
};

// ROWS x (COLUMNS vectors) of C (+)= A B, in registers.
template <int ROWS, int COLUMNS>
static inline void tile(Matrix a, const float* b, long b_row, float* c, long c_row, int depth,
                        bool add) {
    Vec sums[ROWS][COLUMNS];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++)
            sums[i][j] = add ? load(c + i * c_row + j * LANES) : Vec{};
    for (int k = 0; k < depth; k++) {
        Vec right[COLUMNS];
        for (int j = 0; j < COLUMNS; j++) right[j] = load(b + k * b_row + j * LANES);
        for (int i = 0; i < ROWS; i++) {
            const Vec left = all(a.at[i * a.row + k * a.column]);
            for (int j = 0; j < COLUMNS; j++) sums[i][j] += left * right[j];
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) store(c + i * c_row + j * LANES, sums[i][j]);
}

template <int ROWS, int COLUMNS>
static void tall(Matrix a, const float* b, long b_row, float* c, long c_row, int rows, int depth,
                 bool add) {
    for (; rows >= ROWS; rows -= ROWS, a.at += ROWS * a.row, c += ROWS * c_row)
        tile<ROWS, COLUMNS>(a, b, b_row, c, c_row, depth, add);
    if constexpr (ROWS > 1)
        if (rows) tall<ROWS / 2, COLUMNS>(a, b, b_row, c, c_row, rows, depth, add);
}

// C (rows, columns) (+)= A (rows, depth) B (depth, columns), columns filled up to whole vectors.
static void multiply(Matrix a, const float* b, long b_row, float* c, long c_row, int rows,
                     int columns, int depth, bool add) {
    while (columns > 0) {
        int done;
        if (columns >= WIDE * LANES) {
            tall<WIDE_ROWS, WIDE>(a, b, b_row, c, c_row, rows, depth, add);
            done = WIDE * LANES;
        } else if (WIDE > 2 && columns >= 2 * LANES) {
            tall<2 * WIDE_ROWS, 2>(a, b, b_row, c, c_row, rows, depth, add);
            done = 2 * LANES;
        } else {
            tall<2 * WIDE_ROWS, 1>(a, b, b_row, c, c_row, rows, depth, add);
            done = LANES;
        }
        columns -= done, b += done, c += done;
    }
}

static long filled(long n) { return (n + LANES - 1) / LANES * LANES; }

// float32 from and to what a map holds, float32 or bfloat16, n numbers.
static inline void widen(const float* from, float* to, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, load(from + i));
    for (; i < n; i++) to[i] = from[i];
}
static inline void narrow(const float* from, float* to, int n) { widen(from, to, n); }
static inline void widen(const uint16_t* from, float* to, int n) {
    for (int i = 0; i < n; i++) {
        const uint32_t bits = uint32_t(from[i]) << 16;
        std::memcpy(to + i, &bits, 4);
    }
}
static inline void narrow(const float* from, uint16_t* to, int n) {
    for (int i = 0; i < n; i++) {  // to the nearest, of two as near to the even one
        uint32_t bits;
        std::memcpy(&bits, from + i, 4);
        const uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
        to[i] = uint16_t(from[i] != from[i] ? 0x7FC0 : rounded);
    }
}

struct Map {
    int batch, size[3], window[3], shift[3];
    int heads, width;  // h, d
    const float* added;  // (3C): the biases of q, k and v
    const float* scale;  // (h): 1 / tau
    const float* table;  // (h, offsets): the bias from the last offset to the first
};

// One window of the map: which row each of its tokens is (-1 for padding), and their regions.
struct Window {
    const Map& map;
    const int area, across, offsets, width, columns;  // width and area filled up at the end
    std::vector<long> row;
    std::vector<int> region, first;  // first: where a query's biases begin in the table
    bool masked = false;
    long now = -1;

    explicit Window(const Map& m)
        : map(m), area(m.window[0] * m.window[1] * m.window[2]), across(m.window[2]),
          offsets((2 * m.window[0] - 1) * (2 * m.window[1] - 1) * (2 * m.window[2] - 1)),
          width(filled(m.width)), columns(filled(area)), row(area), region(columns), first(area) {
        const int* w = m.window;
        for (int i = 0; i < area; i++)
            first[i] = ((w[0] - 1 - i / (w[1] * w[2])) * (2 * w[1] - 1)
                        + w[1] - 1 - i / w[2] % w[1]) * (2 * w[2] - 1) + w[2] - 1 - i % w[2];
    }

    static int count(const Map& m, int side) {
        return (m.size[side] + m.window[side] - 1) / m.window[side];
    }

    void go_to(long number) {
        if (number == now) return;
        now = number;
        const int grid[3] = {count(map, 0), count(map, 1), count(map, 2)};
        const long place[3] = {number / (grid[1] * grid[2]) % grid[0], number / grid[2] % grid[1],
                               number % grid[2]};
        const long image = number / (long(grid[0]) * grid[1] * grid[2]);
        masked = area < columns;
        for (int i = 0; i < area; i++) {
            const int inside[3] = {i / (map.window[1] * across), i / across % map.window[1],
                                   i % across};
            long at = image;
            int kind = 0;
            for (int side = 0; side < 3; side++) {
                const int padded = grid[side] * map.window[side];
                const int seen = place[side] * map.window[side] + inside[side];
                const int real = (seen + map.shift[side]) % padded;
                if (seen >= padded - map.shift[side] && kind >= 0) kind += 1 << side;
                if (real >= map.size[side]) kind = -1;
                at = at * map.size[side] + real;
            }
            row[i] = kind < 0 ? -1 : at;
            region[i] = kind;
            masked |= kind != region[0] || kind < 0;
        }
        for (int j = area; j < columns; j++) region[j] = -1;
    }

    // (area, width) of a head from rows of the map that are `stride` long, filled up with zeros.
    template <class T>
    void gather(const T* from, long stride, const float* added, float* to) const {
        for (int i = 0; i < area; i++, to += width) {
            store(to + width - LANES, Vec{});
            if (row[i] < 0) {
                std::fill(to, to + width, 0.f);
                continue;
            }
            widen(from + row[i] * stride, to, map.width);
            int c = added ? 0 : map.width;
            for (; c + LANES <= map.width; c += LANES) store(to + c, load(to + c) + load(added + c));
            for (; c < map.width; c++) to[c] += added[c];
        }
    }

    // Ask for a token's part of a head before it is needed: no processor guesses which comes next.
    // In line, as gcc takes a function that does no more for one that does nothing.
    template <class T> [[gnu::always_inline]] void fetch(int i, const T* from, long stride) const {
        constexpr int LINE = 64 / sizeof(T);
        if (row[i] < 0) return;
        for (int c = 0; c < map.width; c += LINE) __builtin_prefetch(from + row[i] * stride + c);
    }

    template <class T> void scatter(const float* from, int begin, int end, T* to, long stride) const {
        for (int i = begin; i < end; i++, from += width)
            if (row[i] >= 0) narrow(from, to + row[i] * stride, map.width);
    }

    // (area, width) -> (width, columns), with zeros in columns that are no token
    void turn(const float* from, float* to) const {
        Vec square[LANES];
        for (int j = 0; j < columns; j += LANES)
            for (int c = 0; c < width; c += LANES) {
                for (int i = 0; i < LANES; i++)
                    square[i] = j + i < area ? load(from + (j + i) * width + c) : Vec{};
                transpose(square);
                for (int i = 0; i < LANES; i++) store(to + (c + i) * columns + j, square[i]);
            }
    }

    // The reciprocal length of each token of (area, width).
    void lengths(const float* from, float* to) const {
        Vec square[LANES];
        for (int j = 0; j < columns; j += LANES) {
            for (int i = 0; i < LANES; i++) {
                square[i] = Vec{};
                if (j + i < area)
                    for (int c = 0; c < width; c += LANES) {
                        const Vec x = load(from + (j + i) * width + c);
                        square[i] += x * x;
                    }
            }
            transpose(square);
            Vec total = square[0];
            for (int i = 1; i < LANES; i++) total += square[i];
            for (int i = 0; i < LANES; i++) to[j + i] = 1 / std::max(std::sqrt(total[i]), SHORTEST);
        }
    }

    // Make unit vectors of (area, width).
    void divide(float* x, const float* inverse) const {
        for (int i = 0; i < area; i++)
            for (int c = 0; c < width; c += LANES, x += LANES) store(x, load(x) * inverse[i]);
    }

    // body(key, offset) for every row of keys side by side: the first of them, and where the biases
    // of these and a query begin in the table of a head.
    template <class F> void rows_of_keys(int query, F body) const {
        const int along = 2 * across - 1, deep = (2 * map.window[1] - 1) * along;
        int key = 0;
        for (int t = 0; t < map.window[0]; t++)
            for (int y = 0; y < map.window[1]; y++, key += across)
                body(key, first[query] + t * deep + y * along);
    }

    // The biases of a query and all keys of a head, of its table; `to` has room for a vector more.
    void spread(int query, const float* of_head, float* to) const {
        rows_of_keys(query, [=](int key, int offset) {
            for (int x = 0; x < across; x += LANES)  // what is over, the next one covers
                store(to + key + x, load(of_head + offset + x));
        });
    }

    // softmax(factor * logits + bias + mask) of one query, in place but for the sum, which it returns.
    float soften(float* logits, int query, float factor, const float* bias) const {
        Vec most = all(NONE);
        if (masked) {
            const Int mine = region[query] - Int{};
            for (int j = 0; j < columns; j += LANES) {
                const Int other = lane(&region[j]);
                const Vec far = (Vec)((Int)all(SEAM) & (Int)(other != mine));
                Vec x = load(logits + j) * factor + load(bias + j) + far;
                x = other < 0 ? all(NONE) : x;
                store(logits + j, x);
                most = larger(most, x);
            }
        } else {
            for (int j = 0; j < columns; j += LANES) {
                const Vec x = load(logits + j) * factor + load(bias + j);
                store(logits + j, x);
                most = larger(most, x);
            }
        }
        const float top = fold(most, larger);
        Vec total{};
        for (int j = 0; j < columns; j += LANES) {
            const Vec p = exponential(load(logits + j) - top);
            store(logits + j, p);
            total += p;
        }
        return sum(total);
    }

    // Of one query: p, made probabilities by `whole`, and their gradient s, made that of the logits.
    void differentiate(float* p, float* s, float whole) const {
        Vec total{};
        for (int j = 0; j < columns; j += LANES) {
            const Vec x = load(p + j) * whole;
            store(p + j, x);
            total += x * load(s + j);
        }
        const float along = sum(total);
        for (int j = 0; j < columns; j += LANES) store(s + j, load(p + j) * (load(s + j) - along));
    }

    // Add the gradient of a query's logits to that of the table.
    void collect(int query, const float* from, double* of_head) const {
        rows_of_keys(query, [=](int key, int offset) {
            for (int x = 0; x < across; x++) of_head[offset + x] += from[key + x];
        });
    }

    // Gradients of unit vectors made those of the vectors, times `scale`; returns what it is due.
    double straighten(float* grad, const float* unit, const float* inverse, int rows,
                      float scale) const {
        double due = 0;
        for (int i = 0; i < rows; i++, grad += width, unit += width) {
            Vec total{};
            for (int c = 0; c < width; c += LANES) total += load(grad + c) * load(unit + c);
            const float along = sum(total), factor = scale * inverse[i];
            for (int c = 0; c < width; c += LANES)
                store(grad + c, (load(grad + c) - load(unit + c) * along) * factor);
            due += along;
        }
        return due;
    }
};

static long windows_of(const Map& map) {
    return long(map.batch) * Window::count(map, 0) * Window::count(map, 1) * Window::count(map, 2);
}

template <class T> struct Aligned {  // to the lines of a cache
    using value_type = T;
    static constexpr std::align_val_t LINE{64};
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), LINE)); }
    void deallocate(T* x, size_t) { ::operator delete(x, LINE); }
    bool operator==(const Aligned&) const { return true; }
    bool operator!=(const Aligned&) const { return false; }
};

struct Floats : std::vector<float, Aligned<float>> {  // with room for a vector after the last one
    explicit Floats(size_t n) : vector(n + LANES) {}
};

// Biases of every head, query and key, where they take little room; else of a query when asked.
struct Biases {
    static constexpr long MOST = 2 << 20;
    const float* table;
    Floats whole;

    explicit Biases(const Map& map, int threads) : table(map.table), whole(0) {
        const Window window(map);
        const long rows = long(map.heads) * window.area;
        if (rows * window.columns > MOST) return;
        whole = Floats(rows * window.columns);
#pragma omp parallel for num_threads(threads)
        for (long i = 0; i < rows; i++) {
            Floats row(window.columns);
            window.spread(i % window.area, table + i / window.area * window.offsets, row.data());
            std::copy_n(row.data(), window.columns, &whole[i * window.columns]);
        }
    }

    const float* of(const Window& window, long head, int query, float* room) const {
        if (whole.size() > LANES) return &whole[(head * window.area + query) * window.columns];
        window.spread(query, table + head * window.offsets, room);
        return room;
    }
};

template <class T> static void forward(const Map& map, const T* qkv, T* out, int threads) {
    const long windows = windows_of(map), tasks = windows * map.heads;
    const long channels = long(map.heads) * map.width;
    const Biases biases(map, threads);
#pragma omp parallel num_threads(threads)
    {
        Window window(map), next(map);
        const int area = window.area, columns = window.columns, width = window.width;
        Floats q(area * width), k(area * width), v(area * width), turned(width * columns);
        Floats inverse(columns), logits(STRIP * columns), bias(columns), found(STRIP * width);
#pragma omp for schedule(static)
        for (long task = 0; task < tasks; task++) {
            const long head = task % map.heads, number = task / map.heads;
            window.go_to(number);
            next.go_to((task + 1) / map.heads % windows);
            const T *from = qkv + head * map.width, *then = qkv + (task + 1) % map.heads * map.width;
            const float* added = map.added + head * map.width;
            window.gather(from, 3 * channels, added, q.data());
            window.gather(from + channels, 3 * channels, added + channels, k.data());
            window.gather(from + 2 * channels, 3 * channels, added + 2 * channels, v.data());
            window.lengths(k.data(), inverse.data());
            window.divide(k.data(), inverse.data());
            window.turn(k.data(), turned.data());
            window.lengths(q.data(), inverse.data());
            for (int begin = 0; begin < area; begin += STRIP) {
                const int rows = std::min(STRIP, area - begin);
                multiply({q.data() + begin * width, width, 1}, turned.data(), columns, logits.data(),
                         columns, rows, columns, width, false);
                float sums[STRIP];
                for (int i = 0; i < rows; i++) {
                    for (int part = 0; part < 3; part++)
                        next.fetch(begin + i, then + part * channels, 3 * channels);
                    sums[i] = window.soften(&logits[i * columns], begin + i,
                                            map.scale[head] * inverse[begin + i],
                                            biases.of(window, head, begin + i, bias.data()));
                }
                multiply({logits.data(), columns, 1}, v.data(), width, found.data(), width, rows,
                         width, area, false);
                for (int i = 0; i < rows; i++)
                    for (int c = 0; c < width; c += LANES) {
                        float* x = &found[i * width + c];
                        store(x, load(x) / sums[i]);
                    }
                window.scatter(found.data(), begin, begin + rows, out + head * map.width, channels);
            }
        }
    }
}

// What threads summed, one after another; some may not have come.
static void add_up(const std::vector<std::vector<double>>& parts, long count, float* to) {
    for (long i = 0; i < count; i++) {
        double total = 0;
        for (const auto& part : parts) total += part.empty() ? 0 : part[i];
        to[i] = float(total);
    }
}

// Gradients: of q, k, v in their places, of 1 / tau and the table summed in the order of threads.
template <class T>
static void backward(const Map& map, const T* qkv, const T* grad, T* grad_qkv, float* grad_scale,
                     float* grad_table, int threads) {
    const long windows = windows_of(map), tasks = windows * map.heads;
    const long channels = long(map.heads) * map.width;
    const Biases biases(map, threads);
    const long entries = map.heads * long(Window(map).offsets);
    std::vector<std::vector<double>> tables(threads), scales(threads);  // sums of very many
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), team = omp_get_num_threads();
        Window window(map), next(map);
        const int area = window.area, columns = window.columns, width = window.width;
        const int square = area * width;
        Floats q(square), k(square), v(square), g(square), turned_k(width * columns);
        Floats turned_v(width * columns), of_q(columns), of_k(columns), bias(columns);
        Floats p(STRIP * columns), s(STRIP * columns), grad_q(STRIP * width);
        Floats grad_k(square), grad_v(square);
        tables[thread].resize(entries);
        scales[thread].resize(map.heads);
        const long first = tasks * thread / team, last = tasks * (thread + 1) / team;
        for (long task = first; task < last; task++) {
            const long head = task % map.heads, own = head * map.width;
            const float scale = map.scale[head];
            window.go_to(task / map.heads);
            next.go_to((task + 1) / map.heads % windows);
            const long then = (task + 1) % map.heads * map.width;
            const float* added = map.added + own;
            window.gather(qkv + own, 3 * channels, added, q.data());
            window.gather(qkv + own + channels, 3 * channels, added + channels, k.data());
            window.gather(qkv + own + 2 * channels, 3 * channels, added + 2 * channels, v.data());
            window.gather(grad + own, channels, nullptr, g.data());
            window.lengths(q.data(), of_q.data());
            window.lengths(k.data(), of_k.data());
            window.divide(q.data(), of_q.data());
            window.divide(k.data(), of_k.data());
            window.turn(k.data(), turned_k.data());
            window.turn(v.data(), turned_v.data());
            for (int begin = 0; begin < area; begin += STRIP) {
                const int rows = std::min(STRIP, area - begin), at = begin * width;
                const float* unit = q.data() + at;
                multiply({unit, width, 1}, turned_k.data(), columns, p.data(), columns, rows, columns,
                         width, false);
                multiply({g.data() + at, width, 1}, turned_v.data(), columns, s.data(), columns, rows,
                         columns, width, false);
                for (int i = 0; i < rows; i++) {
                    for (int part = 0; part < 3; part++)
                        next.fetch(begin + i, qkv + then + part * channels, 3 * channels);
                    next.fetch(begin + i, grad + then, channels);
                    float *of_p = &p[i * columns], *of_s = &s[i * columns];
                    const float* of_bias = biases.of(window, head, begin + i, bias.data());
                    window.differentiate(of_p, of_s, 1 / window.soften(of_p, begin + i, scale, of_bias));
                    window.collect(begin + i, of_s, &tables[thread][head * window.offsets]);
                }
                multiply({p.data(), 1, columns}, g.data() + at, width, grad_v.data(), width, area,
                         width, rows, begin > 0);
                multiply({s.data(), 1, columns}, unit, width, grad_k.data(), width, area, width, rows,
                         begin > 0);
                multiply({s.data(), columns, 1}, k.data(), width, grad_q.data(), width, rows, width,
                         area, false);
                scales[thread][head] += window.straighten(
                    grad_q.data(), unit, of_q.data() + begin, rows, scale);
                window.scatter(grad_q.data(), begin, begin + rows, grad_qkv + own, 3 * channels);
            }
            window.straighten(grad_k.data(), k.data(), of_k.data(), area, scale);
            window.scatter(grad_k.data(), 0, area, grad_qkv + own + channels, 3 * channels);
            window.scatter(grad_v.data(), 0, area, grad_qkv + own + 2 * channels, 3 * channels);
        }
    }
    add_up(scales, map.heads, grad_scale);
    add_up(tables, entries, grad_table);
}

static Map read(const int* geometry, const float* added, const float* scale, const float* table) {
    const int* g = geometry;
    return {g[0], {g[1], g[2], g[3]}, {g[4], g[5], g[6]}, {g[7], g[8], g[9]}, g[10], g[11], added,
            scale, table};
}

// geometry: batch, size, window and shift (three sides each), heads, their width; see native.py.
extern "C" void attend(const int* geometry, const float* added, const float* scale,
                       const float* table, int bf16, const void* qkv, void* out, int threads) {
    const Map map = read(geometry, added, scale, table);
    if (bf16)
        forward(map, static_cast<const uint16_t*>(qkv), static_cast<uint16_t*>(out), threads);
    else
        forward(map, static_cast<const float*>(qkv), static_cast<float*>(out), threads);
}

extern "C" void attend_backward(const int* geometry, const float* added, const float* scale,
                                const float* table, int bf16, const void* qkv, const void* grad,
                                void* grad_qkv, float* grad_scale, float* grad_table, int threads) {
    const Map map = read(geometry, added, scale, table);
    if (bf16)
        backward(map, static_cast<const uint16_t*>(qkv), static_cast<const uint16_t*>(grad),
                 static_cast<uint16_t*>(grad_qkv), grad_scale, grad_table, threads);
    else
        backward(map, static_cast<const float*>(qkv), static_cast<const float*>(grad),
                 static_cast<float*>(grad_qkv), grad_scale, grad_table, threads);
}

// How much of the normal distribution lies below x, and its density there.
static inline void normal(Vec x, Vec& below, Vec& density) {
    const Vec bell = exponential(x * x * -0.5f), size = x < 0 ? -x : x;
    // Beyond |x| lies e^(-x^2 / 2) times this polynomial, fitted to one part in 10^7.
    const Vec t = 1 / (size * 0.3f + 1);
    Vec series = all(0.0367427691f);
    for (float factor : {-0.161684408f, 0.214141886f, -0.0609284095f, 0.132444753f, 0.0987178058f,
                         0.120949305f, 0.119616258f, 0.f})
        series = series * t + factor;
    below = x < 0 ? series * bell : 1 - series * bell;
    density = bell * 0.398942280f;
}

// body(place, numbers) for all of (rows, columns), a vector or less of a row at a time.
template <class F> static void over(long rows, long columns, int threads, F body) {
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long c = 0; c < columns; c += LANES)
            body(row * columns + c, c, std::min<long>(LANES, columns - c));
}

// out = gelu(x + added): (rows, columns), `added` (columns).
extern "C" void gelu(const float* x, const float* added, float* out, long rows, long columns,
                     int threads) {
    over(rows, columns, threads, [=](long at, long c, long n) {
        const Vec inner = load(x + at, n) + load(added + c, n);
        Vec below, density;
        normal(inner, below, density);
        store(out + at, inner * below, n);
    });
}

// The same `out` once more; `grad` of it becomes that of x.
extern "C" void gelu_backward(const float* x, const float* added, float* grad, float* out,
                              long rows, long columns, int threads) {
    over(rows, columns, threads, [=](long at, long c, long n) {
        const Vec inner = load(x + at, n) + load(added + c, n);
        Vec below, density;
        normal(inner, below, density);
        store(out + at, inner * below, n);
        store(grad + at, load(grad + at, n) * (below + inner * density), n);
    });
}

// A row's mean, and the reciprocal of its deviation.
struct Moments {
    float mean, scale;

    Moments(const float* x, long columns, float eps) {
        Vec total{}, squares{};
        for (long c = 0; c < columns; c += LANES)
            total += load(x + c, std::min<long>(LANES, columns - c));
        mean = sum(total) / columns;
        for (long c = 0; c < columns; c += LANES) {
            const Vec apart = load(x + c, std::min<long>(LANES, columns - c)) - mean;
            squares += apart * apart;
        }
        // what a last vector lacks of LANES was taken for 0, each of them `mean` apart
        const float none = (filled(columns) - columns) * mean * mean;
        scale = 1 / std::sqrt((sum(squares) - none) / columns + eps);
    }

    Vec unit(Vec x) const { return (x - mean) * scale; }
};

// out = trunk + kept * ((x - mean) / sqrt(variance + eps) * weight + bias), row by row of (samples,
// rows, columns), `kept` (samples).
extern "C" void add_norm(const float* x, const float* weight, const float* kept, float eps,
                         long samples, long rows, long columns, const float* trunk,
                         const float* bias, float* out, int threads) {
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < samples * rows; row++) {
        const long at = row * columns;
        const Moments of(x + at, columns, eps);
        const float factor = kept[row / rows];
        for (long c = 0; c < columns; c += LANES) {
            const long n = std::min<long>(LANES, columns - c);
            const Vec unit = of.unit(load(x + at + c, n));
            store(out + at + c, load(trunk + at + c, n)
                  + factor * (unit * load(weight + c, n) + load(bias + c, n)), n);
        }
    }
}

// Gradients of x, and of weight and bias, these summed in the order of threads, from that of `out`.
extern "C" void add_norm_backward(const float* x, const float* weight, const float* kept, float eps,
                                  long samples, long rows, long columns, const float* grad,
                                  float* grad_x, float* grad_weight, float* grad_bias, int threads) {
    constexpr long SOME = 64;  // rows that are summed in float32
    const long all_rows = samples * rows;
    std::vector<std::vector<double>> weights(threads), biases(threads);
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        auto &of_weight = weights[thread], &of_bias = biases[thread];
        of_weight.resize(columns), of_bias.resize(columns);
        Floats some_weight(columns), some_bias(columns);
#pragma omp for schedule(static)
        for (long begin = 0; begin < all_rows; begin += SOME) {
            std::fill(some_weight.begin(), some_weight.end(), 0.f);
            std::fill(some_bias.begin(), some_bias.end(), 0.f);
            for (long row = begin; row < std::min(begin + SOME, all_rows); row++) {
                const long at = row * columns;
                const Moments of(x + at, columns, eps);
                const float factor = kept[row / rows];
                Vec total{}, along{};
                for (long c = 0; c < columns; c += LANES) {
                    const long n = std::min<long>(LANES, columns - c);
                    const Vec unit = of.unit(load(x + at + c, n));
                    const Vec g = load(grad + at + c, n) * factor, inner = g * load(weight + c, n);
                    float *w = &some_weight[c], *b = &some_bias[c];
                    store(w, load(w) + g * unit);
                    store(b, load(b) + g);
                    total += inner;
                    along += inner * unit;
                }
                const float mean = sum(total) / columns, lean = sum(along) / columns;
                for (long c = 0; c < columns; c += LANES) {
                    const long n = std::min<long>(LANES, columns - c);
                    const Vec unit = of.unit(load(x + at + c, n));
                    const Vec inner = load(grad + at + c, n) * factor * load(weight + c, n);
                    store(grad_x + at + c, (inner - mean - unit * lean) * of.scale, n);
                }
            }
            for (long c = 0; c < columns; c++)
                of_weight[c] += some_weight[c], of_bias[c] += some_bias[c];
        }
    }
    add_up(weights, columns, grad_weight);
    add_up(biases, columns, grad_bias);
}
