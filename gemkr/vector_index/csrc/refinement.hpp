// When better scores need no longer be asked for: what they added to the scores so far says what is likely to come, and what the first
// vectors of a query added to a document's says what the others will.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_set>
#include <vector>

namespace gemkr {

// Mean and deviation of numbers (Welford 1962).
struct Moments {
    std::size_t count = 0;
    double mean = 0, squares = 0;
    void add(double x) {
        const double off = x - mean;
        mean += off / static_cast<double>(++count);
        squares += off * (x - mean);
    }
    double variance() const { return count ? squares / static_cast<double>(count) : 0; }
};

// The line through y by x, least squares, and the variance of y around it.
struct Line {
    Moments x, y;
    double products = 0;
    void add(double at, double value) {
        const double off = value - y.mean;
        x.add(at);
        y.add(value);
        products += (at - x.mean) * off;
    }
    double slope() const { return x.squares > 0 ? products / x.squares : 0; }
    double at(double place) const { return y.mean + slope() * (place - x.mean); }
    double variance() const { return std::max(0.0, y.variance() - slope() * slope() * x.variance()); }
};

// The best `wanted` better scores, what the first vectors added to scores, and what the others added by that. Each better score counts
// once, as copies of a document say it once. Without first vectors all of a query's are the first.
class Refinement {
  public:
    explicit Refinement(std::size_t wanted) : wanted_(wanted) {}

    // What the first vectors added to scores: the numbers of the documents that may come among the best, though the others add `sure`
    // deviations more than is likely; all of them before `known` documents are.
    std::vector<std::int64_t> begin(const float* better, const float* begun, const float* scores, std::size_t n, double sure,
                                    std::size_t known) {
        std::vector<std::int64_t> kept;
        const bool knows = best_.size() >= wanted_ && rest_.x.count >= std::max<std::size_t>(known, 1);
        const double more = sure * std::sqrt(rest_.variance());
        for (std::size_t i = 0; i < n; ++i) {
            const double added = double{better[i]} - double{begun[i]};
            if (first_.count == 0 || better[i] != last_) first_.add(added);  // copies stand beside one another, as their scores are equal
            last_ = better[i];
            if (knows && !(double{scores[i]} + added + rest_.at(added) + more >= worst())) continue;
            kept.push_back(static_cast<std::int64_t>(i));
        }
        return kept;
    }

    // The better scores of documents; what the first vectors `added` to them, or null.
    void learn(const float* better, const float* scores, const float* added, std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            if (best_.size() < wanted_) {
                best_.push_back(better[i]);
                std::push_heap(best_.begin(), best_.end(), std::greater<>());
            } else if (wanted_ && better[i] > best_.front()) {
                std::pop_heap(best_.begin(), best_.end(), std::greater<>());
                best_.back() = better[i];
                std::push_heap(best_.begin(), best_.end(), std::greater<>());
            }
            if (!seen_.insert(better[i]).second) continue;
            const double gain = double{better[i]} - double{scores[i]}, first = added ? double{added[i]} : gain;
            if (!added) first_.add(first);
            rest_.add(first, gain - first);
        }
    }

    // Whether a document of this score is not likely to come among the best: with `sure` deviations more than the mean, where at least
    // `known` better scores are.
    bool settled(double score, double sure, std::size_t known) const {
        if (best_.size() < wanted_ || rest_.x.count < std::max<std::size_t>(known, 1)) return false;
        if (!wanted_) return true;
        const double each = 1 + rest_.slope(), mean = first_.mean + rest_.at(first_.mean);
        return score + mean + sure * std::sqrt(each * each * first_.variance() + rest_.variance()) < worst();
    }

  private:
    double worst() const { return wanted_ ? double{best_.front()} : HUGE_VAL; }

    std::size_t wanted_;
    std::vector<float> best_;  // a heap, its least one in front
    std::unordered_set<float> seen_;
    float last_ = 0;  // by the first vectors, of the document before
    Moments first_;
    Line rest_;
};

}  // namespace gemkr
