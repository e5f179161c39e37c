#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Noisy {
    ~Noisy() { std::cout << "unwound\n"; }
};

static int deep(int n)
{
    Noisy noisy;
    if (n == 0)
        throw std::runtime_error("from the bottom");
    return deep(n - 1) + 1;
}

int main()
{
    try {
        deep(5);
    } catch (const std::exception &e) {
        std::cout << "caught: " << e.what() << '\n';
    }
    std::map<std::string, int> counts;
    std::vector<std::thread> threads;
    std::vector<long> sums(4);
    for (int i = 0; i < 4; i++)
        threads.emplace_back([i, &sums] {
            try {
                for (long n = 0; n < 100000; n++)
                    sums[i] += n * i;
                if (i % 2)
                    throw i;
            } catch (int thrown) {
                sums[i] += thrown;
            }
        });
    for (auto &t : threads)
        t.join();
    for (int i = 0; i < 4; i++)
        counts["thread" + std::to_string(i)] = static_cast<int>(sums[i] % 1000003);
    for (const auto &[name, value] : counts)
        std::cout << name << ' ' << value << '\n';
    return 0;
}
