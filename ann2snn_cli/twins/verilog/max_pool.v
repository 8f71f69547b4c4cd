// The maximum of each window of a channel, over one to three axes (d, h, w; those it lacks have extent 1).
//
// Every input has a running sum of all that it has sent. When a window has its turn, everything of this step
// is in: it sends by how much the largest sum of its inputs has grown since the step before,
//
//     largest sum of the window now - largest sum of the window a step ago (0 before the first step)
//
// Fed with spikes that is 0 or 1; fed with currents it may be negative, and so may the sums. Padding and what
// hangs over the edge have no sum, so they never win.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // one clock compares the inputs of a window, one after the other

module max_pool #(
    parameter X_BITS = 2,
    parameter BITS = 2,
    parameter SUM_BITS = 16,
    parameter CHANNELS = 1,
    parameter IN_D = 1, parameter IN_H = 1, parameter IN_W = 1,
    parameter OUT_D = 1, parameter OUT_H = 1, parameter OUT_W = 1,
    parameter KERNEL_D = 1, parameter KERNEL_H = 1, parameter KERNEL_W = 1,
    parameter STRIDE_D = 1, parameter STRIDE_H = 1, parameter STRIDE_W = 1,
    parameter PADDING_D = 0, parameter PADDING_H = 0, parameter PADDING_W = 0,
    parameter DILATION_D = 1, parameter DILATION_H = 1, parameter DILATION_W = 1
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
    localparam INPUTS = CHANNELS * IN_D * IN_H * IN_W;
    localparam OUTPUTS = CHANNELS * OUT_D * OUT_H * OUT_W;

    reg signed [SUM_BITS-1:0] sum     [0:INPUTS-1];  // over all steps so far, this one included
    reg signed [SUM_BITS-1:0] largest [0:OUTPUTS-1];  // of the step before

    reg signed [BITS-1:0] grown;
    integer i, kd, kh, kw, d, h, w, from, best;

    always @(posedge clock) begin
        if (start) begin
            for (i = 0; i < INPUTS; i = i + 1) sum[i] = 0;
            for (i = 0; i < OUTPUTS; i = i + 1) largest[i] = 0;
        end

        if (in_valid) sum[in_address] = sum[in_address] + in_value;

        out_valid <= 0;
        if (turn) begin
            best = -1;
            for (kd = 0; kd < KERNEL_D; kd = kd + 1) begin
                d = index / (OUT_H * OUT_W) % OUT_D * STRIDE_D + kd * DILATION_D - PADDING_D;
                for (kh = 0; kh < KERNEL_H; kh = kh + 1) begin
                    h = index / OUT_W % OUT_H * STRIDE_H + kh * DILATION_H - PADDING_H;
                    for (kw = 0; kw < KERNEL_W; kw = kw + 1) begin
                        w = index % OUT_W * STRIDE_W + kw * DILATION_W - PADDING_W;
                        if (d >= 0 && d < IN_D && h >= 0 && h < IN_H && w >= 0 && w < IN_W) begin
                            from = ((index / (OUT_D * OUT_H * OUT_W) * IN_D + d) * IN_H + h) * IN_W + w;
                            if (best < 0 || sum[from] > sum[best]) best = from;
                        end
                    end
                end
            end
            grown = sum[best] - largest[index];
            largest[index] = sum[best];
            out_valid <= grown !== 0;
            out_address <= index;
            out_value <= grown;
        end
    end
endmodule
