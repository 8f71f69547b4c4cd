// The maximum of each window of a channel, over one to three axes (d, h, w; those it lacks have extent 1).
//
// Every input has a running sum of all that it sent, this step included. Of each window
//     GATE = 1   passes on what the input with the largest sum sent in this step (ties: the lowest address)
//     GATE = 0   passes on by how much the largest sum has grown since the step before
// Padding and what hangs over the edge never win. The turn of window 0 brings the running sums up to date,
// the turn of the last one clears what came in.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // one clock compares the inputs of a window, one after the other

module max_pool #(
    parameter SLOTS = 1,  // steps that are held: 1, or all of them in the layerwise schedule
    parameter X_BITS = 2,
    parameter BITS = 2,
    parameter SUM_BITS = 16,
    parameter GATE = 1,
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
    input [31:0] slot,

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

    reg signed [X_BITS-1:0]   x       [0:SLOTS*INPUTS-1];  // what came in
    reg signed [SUM_BITS-1:0] sum     [0:INPUTS-1];  // over all steps so far
    reg signed [SUM_BITS-1:0] largest [0:OUTPUTS-1];  // of the step before

    reg signed [BITS-1:0] passed;
    integer i, kd, kh, kw, d, h, w, from, best;

    always @(posedge clock) begin
        if (start) begin
            for (i = 0; i < SLOTS * INPUTS; i = i + 1) x[i] = 0;
            for (i = 0; i < INPUTS; i = i + 1) sum[i] = 0;
            for (i = 0; i < OUTPUTS; i = i + 1) largest[i] = 0;
        end

        if (in_valid) x[slot * INPUTS + in_address] = x[slot * INPUTS + in_address] + in_value;

        out_valid <= 0;
        if (turn) begin
            if (index == 0) for (i = 0; i < INPUTS; i = i + 1) sum[i] = sum[i] + x[slot * INPUTS + i];

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
            passed = GATE ? x[slot * INPUTS + best] : sum[best] - largest[index];
            largest[index] = sum[best];
            out_valid <= passed !== 0;
            out_address <= index;
            out_value <= passed;

            if (index == OUTPUTS - 1) for (i = 0; i < INPUTS; i = i + 1) x[slot * INPUTS + i] = 0;
        end
    end
endmodule
