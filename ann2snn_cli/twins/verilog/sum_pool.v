// The sum of each window of a channel, over one to three axes (d, h, w; those it lacks have extent 1).
//
// Each event is added to all windows that it lies in, within one clock. A layer's turn passes the sums on and
// clears them.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // one clock adds to several sums, one after the other

module sum_pool #(
    parameter X_BITS = 2,
    parameter BITS = 16,
    parameter CHANNELS = 1,
    parameter IN_D = 1, parameter IN_H = 1, parameter IN_W = 1,
    parameter OUT_D = 1, parameter OUT_H = 1, parameter OUT_W = 1,
    parameter KERNEL_D = 1, parameter KERNEL_H = 1, parameter KERNEL_W = 1,
    parameter STRIDE_D = 1, parameter STRIDE_H = 1, parameter STRIDE_W = 1,
    parameter PADDING_D = 0, parameter PADDING_H = 0, parameter PADDING_W = 0
) (
    input        clock,
    input        start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of window `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    localparam OUTPUTS = CHANNELS * OUT_D * OUT_H * OUT_W;

    reg signed [BITS-1:0] sum [0:OUTPUTS-1];

    integer i, channel, kd, kh, kw, d, h, w, to;

    // The window in which a value is number `tap` along one axis; -1: none.
    function integer window(input integer place, tap, stride, padding, extent);
        begin
            window = place + padding - tap;
            window = window % stride == 0 ? window / stride : -1;
            if (window < 0 || window >= extent) window = -1;
        end
    endfunction

    always @(posedge clock) begin
        if (start) for (i = 0; i < OUTPUTS; i = i + 1) sum[i] = 0;

        if (in_valid) begin
            channel = in_address / (IN_D * IN_H * IN_W);
            for (kd = 0; kd < KERNEL_D; kd = kd + 1) begin
                d = window(in_address / (IN_H * IN_W) % IN_D, kd, STRIDE_D, PADDING_D, OUT_D);
                for (kh = 0; kh < KERNEL_H; kh = kh + 1) begin
                    h = window(in_address / IN_W % IN_H, kh, STRIDE_H, PADDING_H, OUT_H);
                    for (kw = 0; kw < KERNEL_W; kw = kw + 1) begin
                        w = window(in_address % IN_W, kw, STRIDE_W, PADDING_W, OUT_W);
                        if (d >= 0 && h >= 0 && w >= 0) begin
                            to = ((channel * OUT_D + d) * OUT_H + h) * OUT_W + w;
                            sum[to] = sum[to] + in_value;
                        end
                    end
                end
            end
        end

        out_valid <= 0;
        if (turn) begin
            out_valid <= sum[index] !== 0;
            out_address <= index;
            out_value <= sum[index];
            sum[index] = 0;
        end
    end
endmodule
